//! Signing in by a real provider: Dex, where there is one (`tests/run --with-dex`).

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::support::{
    app::{App, Setup},
    server::closed_port,
};

/// The binary of Dex; `None`, and said, where there is none.
fn dex() -> Option<String> {
    let binary = std::env::var("DRIPFEED_TEST_DEX").ok();
    if binary.is_none() {
        // Past the test harness, which would swallow it.
        let told = writeln!(std::io::stderr(), "SKIPPED dex: it needs Dex (tests/run --with-dex)");
        told.expect("told");
    }
    binary
}

struct Dex(Child);

impl Drop for Dex {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Follows a browser's way from here until it leads back to the app; that address.
fn until_back(app: &App, mut url: String) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    for _ in 0..10 {
        if url.starts_with(&app.url("/")) {
            return url;
        }
        let mut answer = agent.get(&url).call().expect("an answer");
        let body = answer.body_mut().read_to_string().expect("text");
        let location = answer.headers().get("location").unwrap_or_else(|| panic!("{url} leads nowhere: {body}"));
        let location = location.to_str().expect("text");
        let host: String = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        url = if location.starts_with('/') { format!("{host}{location}") } else { location.to_owned() };
    }
    panic!("it never comes back: {url}");
}

/// Asks as a browser with this cookie: the status, where it leads, the cookies that are set, the body.
fn ask(url: &str, cookie: &str) -> (u16, String, Vec<String>, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let mut answer = agent.get(url).header("Cookie", cookie).call().expect("an answer");
    let text = |value: &ureq::http::HeaderValue| value.to_str().expect("text").to_owned();
    let cookies = answer.headers().get_all("set-cookie").iter().map(text);
    let cookies = cookies.map(|cookie| cookie.split(';').next().expect("a cookie").to_owned()).collect();
    let location = answer.headers().get("location").map(text).unwrap_or_default();
    let body = answer.body_mut().read_to_string().expect("text");
    (answer.status().as_u16(), location, cookies, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[test]
fn somebody_signs_in_by_dex() {
    let Some(binary) = dex() else { return };
    let address = closed_port();
    let issuer = format!("http://{address}/dex");
    let settings = format!(
        "[access.oidc]\nissuer = \"{issuer}\"\nclient_id = \"dripfeed\"\nclient_secret = \"of-dex-0123456789\"\n\
         roles = {{ operator = [\"authors\"] }}\n"
    );
    let app = App::start(Setup { more: settings, ..super::idle() });
    let (status, _, _, told) = ask(&app.url("/session/oidc"), "");
    assert_eq!((status, &told["code"]), (503, &json!("unavailable")), "there is no Dex yet: {told}");

    let config = app.folder.path().join("dex.yaml");
    // Its connector `mockCallback` knows one person, Kilgore Trout, who is among the `authors`.
    let text = format!(
        "issuer: {issuer}\nstorage: {{ type: memory }}\nweb: {{ http: \"{address}\" }}\n\
         oauth2: {{ skipApprovalScreen: true }}\n\
         connectors: [{{ type: mockCallback, id: mock, name: Mock }}]\n\
         staticClients:\n- id: dripfeed\n  secret: of-dex-0123456789\n  name: dripfeed\n  redirectURIs: [\"{}\"]\n",
        app.url("/session/oidc/back")
    );
    std::fs::write(&config, text).expect("written");
    let log = std::fs::File::create(app.folder.path().join("dex.log")).expect("a log");
    let spawned = Command::new(binary).arg("serve").arg(&config).stdout(Stdio::null()).stderr(log).spawn();
    let _dex = Dex(spawned.expect("Dex starts"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "Dex never listens");
        std::thread::park_timeout(Duration::from_millis(50));
    }

    let (status, page, cookies, told) = ask(&app.url("/session/oidc"), "");
    assert_eq!(status, 303, "{told}");
    let back = until_back(&app, page);
    let (status, location, signed_in, told) = ask(&back, &cookies[0]);
    assert_eq!((status, &location[..]), (303, "/"), "{told}");
    let session = signed_in.iter().find(|cookie| cookie.starts_with("dripfeed_session=")).expect("a session");
    let (status, _, _, told) = ask(&app.url("/session"), session);
    assert_eq!(
        (status, &told["name"], &told["role"]),
        (200, &json!("oidc:Kilgore-Trout"), &json!("operator")),
        "{told}"
    );
    assert_eq!(ask(&app.url("/ops/v1/overview"), session).0, 200);
    assert_eq!(ask(&back, &cookies[0]).0, 401, "once");
}
