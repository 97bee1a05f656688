//! Signing in on the page.

use serde_json::{Value, json};

use super::{
    JSON, Told, bearer, call, idle, printed,
    support::app::{App, DISPATCH, OPERATOR, Setup, people},
};

fn sign_in(app: &App, key: &str, headers: &[(&str, &str)]) -> Told {
    let headers: Vec<_> = headers.iter().copied().chain([JSON]).collect();
    call(app, "POST", "/session", &headers, &json!({ "key": key }).to_string())
}

/// The cookie as a browser sends it back.
fn cookie(told: &Told) -> String {
    assert_eq!(told.status, 200, "{told:?}");
    told.headers["set-cookie"].split(';').next().expect("a cookie").to_owned()
}

/// Scheme and host as the page has them.
fn origin(app: &App) -> String {
    app.url("").trim_end_matches('/').to_owned()
}

#[test]
fn a_session_can_do_what_its_key_can_and_only_from_our_page() {
    let app = App::start(idle());
    let id = app.accepted(people(2));
    let told = sign_in(&app, &app.key, &[]);
    let attributes = &told.headers["set-cookie"];
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(attributes.contains(attribute), "{attribute} in {attributes}");
    }
    assert!(!attributes.contains("Secure"), "over plain HTTP a browser would drop it: {attributes}");
    assert_eq!((&told.body["kind"], &told.body["name"]), (&json!("client"), &json!("acme")));
    let (cookie, origin) = (cookie(&told), origin(&app));
    let who = call(&app, "GET", "/session", &[("cookie", &cookie)], "");
    assert_eq!((who.status, &who.body), (200, &told.body));
    assert_eq!(call(&app, "GET", "/session", &[], "").status, 401);
    assert_eq!(call(&app, "GET", "/v2/batches", &[("cookie", &format!("a=b; {cookie}; c=d"))], "").status, 200);
    assert_eq!(call(&app, "GET", "/ops/v1/overview", &[("cookie", &cookie)], "").status, 403);

    let pause = format!("/v2/batches/{id}/pause");
    let page = ("x-dripfeed", "page");
    for headers in [
        &[("cookie", &cookie[..])][..],
        &[("cookie", &cookie), page],
        &[("cookie", &cookie), ("origin", &origin)],
        &[("cookie", &cookie), page, ("origin", "https://evil.example")],
        &[("cookie", &cookie), page, ("origin", "null")],
    ] {
        let refused = call(&app, "POST", &pause, headers, "");
        assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("forbidden")), "{headers:?}");
    }
    assert_eq!(app.batch(&id)["paused"], false);
    let meant = [("cookie", &cookie[..]), page, ("origin", &origin)];
    assert_eq!(call(&app, "POST", &pause, &meant, "").body["paused"], true);
    let wrong_key = [("cookie", &cookie[..]), ("authorization", "Bearer nonsense")];
    assert_eq!(call(&app, "GET", "/v2/batches", &wrong_key, "").status, 401, "a key that is shown is what counts");

    let other = sign_in(&app, &app.key, &[]);
    let ended = call(&app, "DELETE", "/session", &meant, "");
    assert!(ended.status == 204 && ended.headers["set-cookie"].contains("Max-Age=0"), "{ended:?}");
    assert_eq!(call(&app, "GET", "/session", &[("cookie", &cookie)], "").status, 401);
    let other = other.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    assert_eq!(call(&app, "GET", "/session", &[("cookie", &other)], "").status, 200, "the other browser stays");
}

#[test]
fn a_session_ends_with_its_key_and_with_its_time() {
    let app = App::start(Setup { access: "session_ttl = \"2s\"".into(), ..idle() });
    let short = cookie(&sign_in(&app, OPERATOR, &[]));
    let shows = |cookie: &str| call(&app, "GET", "/session", &[("cookie", cookie)], "");
    assert_eq!(shows(&short).body["kind"], "operator");
    app.until("the session has ended", || (shows(&short).status == 401).then_some(()));

    let ann = printed(&app, &["operator", "add", "ann", "--json"]);
    let of_ann = cookie(&sign_in(&app, ann["token"].as_str().expect("a token"), &[]));
    let of_acme = cookie(&sign_in(&app, &app.key, &[]));
    app.command(&["operator", "remove", "ann"]);
    app.command(&["client", "rotate-key", "acme", "--old-key-works-for", "0s"]);
    assert_eq!((shows(&of_ann).status, shows(&of_acme).status), (401, 401));

    assert_eq!(sign_in(&app, "nonsense", &[]).status, 401);
    assert_eq!(sign_in(&app, DISPATCH, &[]).status, 403);
    assert_eq!(sign_in(&app, OPERATOR, &[("origin", "https://evil.example")]).status, 403);
    let form =
        call(&app, "POST", "/session", &[("content-type", "text/plain")], &json!({ "key": OPERATOR }).to_string());
    assert_eq!(form.status, 415, "a form of another site cannot sign anybody in");
    let with_key = call(&app, "GET", "/session", &[("authorization", &bearer(OPERATOR))], "");
    assert_eq!((&with_key.body["name"], &with_key.body["expires_at"]), (&json!("root"), &Value::Null));
}

#[test]
fn behind_a_proxy_that_is_believed_the_cookie_is_secure_and_the_origin_is_the_proxys() {
    let app = App::start(Setup { server: "trusted_proxies = [\"127.0.0.0/8\"]".into(), ..idle() });
    let id = app.accepted(people(1));
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "drip.example")];
    let told = sign_in(&app, &app.key, &forwarded);
    let set = &told.headers["set-cookie"];
    assert!(
        set.starts_with("__Host-dripfeed_session=") && set.contains("; Path=/;") && set.ends_with("; Secure"),
        "{set}"
    );
    assert!(!set.contains("Domain"), "{set}");
    let cookie = cookie(&told);
    let shown = |cookie: &str| call(&app, "GET", "/session", &[("cookie", cookie), forwarded[0]], "").status;
    assert_eq!(shown(&cookie), 200);
    let of_a_neighbour = cookie.replacen("__Host-", "", 1);
    assert_eq!(shown(&of_a_neighbour), 401, "any host of the domain could have set that");
    assert_eq!(call(&app, "GET", "/session", &[("cookie", &cookie)], "").status, 401, "over plain HTTP it is another");
    let pause = |origin: &str| {
        let headers = [("cookie", &cookie[..]), ("x-dripfeed", "page"), ("origin", origin), forwarded[0], forwarded[1]];
        call(&app, "POST", &format!("/v2/batches/{id}/pause"), &headers, "").status
    };
    assert_eq!((pause("https://drip.example.evil"), pause("https://drip.example")), (403, 200));

    let plain = App::start(idle());
    let told = sign_in(&plain, &plain.key, &forwarded);
    let set = &told.headers["set-cookie"];
    assert!(
        set.starts_with("dripfeed_session=") && !set.contains("Secure"),
        "nobody is believed who is not configured: {told:?}"
    );
}
