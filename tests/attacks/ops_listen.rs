//! A listener of operators' own: what cannot be reached on the other one, by no path, no key and no session.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    raw::{connection_from, idle},
    support::app::{App, DISPATCH, OPERATOR, Setup, agent},
};

fn start() -> App {
    let access = "metrics_token = \"metrics-token-0123456789\"".into();
    App::start(Setup { server: "ops_listen = \"127.0.0.1:0\"".into(), access, ..idle() })
}

/// Where operators are let in.
fn ops(app: &App) -> String {
    let started = app.events().into_iter().find(|line| line["event"] == "server.started").expect("it serves");
    format!("http://{}", started["ops_address"].as_str().expect("an address"))
}

fn main_listener(app: &App) -> String {
    app.url("")
}

/// The status and the body of one call.
fn call(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value, Option<String>) {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = agent().run(request.body(body.to_owned()).expect("a request")).expect("an answer");
    let cookie = answer.headers().get("set-cookie").map(|cookie| cookie.to_str().expect("text").to_owned());
    let text = answer.body_mut().read_to_string().expect("text");
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)), cookie)
}

fn get(url: &str, key: &str) -> u16 {
    call("GET", url, &[("Authorization", &format!("Bearer {key}"))], "").0
}

fn sign_in(at: &str, key: &str) -> (u16, String) {
    let body = json!({ "key": key }).to_string();
    let (status, _, cookie) = call("POST", &format!("{at}/session"), &[("Content-Type", "application/json")], &body);
    (status, cookie.unwrap_or_default().split(';').next().unwrap_or_default().to_owned())
}

#[test]
fn nothing_of_operators_is_on_the_clients_listener() {
    let app = start();
    let (clients, operators) = (main_listener(&app), ops(&app));
    let described = call("GET", &format!("{operators}/openapi.json"), &[], "").1;
    let paths = described["paths"].as_object().expect("paths");
    let mut swept = 0;
    for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/ops/") || *path == "/metrics") {
        let path = path.replace("{session}", "1").replace("{name}", "acme");
        for method in methods.as_object().expect("methods").keys().map(|method| method.to_uppercase()) {
            for key in [OPERATOR, DISPATCH, "metrics-token-0123456789", &app.key, "nobody's"] {
                let bearer = format!("Bearer {key}");
                let (status, told, _) = call(&method, &format!("{clients}{path}"), &[("Authorization", &bearer)], "");
                assert_eq!((status, &told["code"]), (404, &json!("not_found")), "{method} {path}: {told}");
            }
            swept += 1;
        }
    }
    assert!(swept > 20, "{swept} calls");
    for path in ["//ops/v1/overview", "/%6Fps/v1/overview", "/OPS/v1/overview", "/v2/../ops/v1/overview", "/metrics/"] {
        let status =
            crate::raw::ask(&app, 1, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {OPERATOR}")).0.status;
        assert_eq!(status, 404, "{path}");
    }
    assert_eq!(
        (get(&format!("{operators}/ops/v1/overview"), OPERATOR), get(&format!("{operators}/metrics"), OPERATOR)),
        (200, 200)
    );
    for at in [&clients, &operators] {
        for path in ["/", "/livez", "/readyz", "/openapi.json"] {
            assert_eq!(call("GET", &format!("{at}{path}"), &[], "").0, 200, "{at}{path}");
        }
    }
}

#[test]
fn no_key_and_no_session_of_operators_is_good_for_anything_there() {
    let app = start();
    let (clients, operators) = (main_listener(&app), ops(&app));
    let id = app.accepted(crate::support::app::people(2));
    for key in [OPERATOR, DISPATCH] {
        for path in ["/v2/batches".to_owned(), format!("/v2/batches/{id}/rows"), "/session".to_owned()] {
            assert_eq!(get(&format!("{clients}{path}"), key), 403, "{path}");
        }
    }
    assert_eq!(sign_in(&clients, OPERATOR).0, 403);
    let (status, cookie) = sign_in(&operators, OPERATOR);
    assert_eq!(status, 200);
    // Browsers tell no ports apart, and send it to both.
    let value = cookie.split_once('=').expect("a cookie").1;
    for cookie in [cookie.clone(), format!("dripfeed_session={value}"), format!("__Host-dripfeed_session={value}")] {
        let (status, told, _) = call("GET", &format!("{clients}/v2/batches"), &[("Cookie", &cookie)], "");
        assert!(status == 401 || status == 403, "{cookie}: {told}");
    }
    let on_their_own = |path: &str| call("GET", &format!("{operators}{path}"), &[("Cookie", &cookie)], "").0;
    assert_eq!((on_their_own("/v2/batches"), on_their_own(&format!("/v2/batches/{id}/rows"))), (200, 200));

    // A client who signs in on the one does not sign an operator out on the other.
    let (status, of_client) = sign_in(&clients, &app.key);
    assert!(status == 200 && of_client.split('=').next() != cookie.split('=').next(), "{of_client} and {cookie}");
    assert_eq!(call("GET", &format!("{clients}/v2/batches"), &[("Cookie", &of_client)], "").0, 200);
}

#[test]
fn a_crowd_on_the_one_keeps_nobody_out_of_the_other() {
    let app = start();
    let _crowd: Vec<_> =
        (2..=13).flat_map(|from| (0..100).map(move |_| from)).map(|from| connection_from(&app, from)).collect();
    let asked = Instant::now();
    assert_eq!(get(&format!("{}/ops/v1/overview", ops(&app)), OPERATOR), 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
}

#[test]
fn commands_find_it() {
    let mut app = App::prepared(idle());
    app.launch_by("exec \"$0\" \"$@\" --ops-listen 127.0.0.1:0");
    assert!(app.listens(), "{}", app.log());
    let path = app.folder.path().join("dripfeed.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let (main, ops) = (main_listener(&app).replace("http://", ""), ops(&app).replace("http://", ""));
    let write = |ops: &str| {
        let both = format!("listen = \"{main}\"\nops_listen = \"{ops}\"");
        std::fs::write(&path, text.replacen("listen = \"127.0.0.1:0\"", &both, 1)).expect("written");
    };
    write(&ops);
    for command in ["dispatch", "healthcheck"] {
        let done = app.command(&[command]);
        assert!(done.status.success(), "{command}: {done:?}");
    }
    let there = app.command(&["dispatch", "--url", &format!("http://{main}")]);
    assert_eq!(there.status.code(), Some(1), "{there:?}");
    write(&main);
    let refused = app.command(&["healthcheck"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("server.ops_listen: is the same"), "{said}");
}
