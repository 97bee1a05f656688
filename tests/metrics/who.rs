//! Who may read the metrics, and what else the metrics token can do: nothing.

use serde_json::{Value, json};

use super::{
    METRICS, asked, idle, scrape, seen,
    support::app::{App, DISPATCH, OPERATOR, Setup, people},
};

#[test]
fn operators_and_the_metrics_token_read_them_and_nobody_else() {
    let app = App::start(idle());
    for (key, expected) in [
        (Some(METRICS), 200),
        (Some(OPERATOR), 200),
        (Some(app.key.as_str()), 403),
        (Some(DISPATCH), 403),
        (Some("metrics-token-9876543210"), 401),
        (None, 401),
    ] {
        let (status, _, text) = asked(&app, key);
        assert_eq!(status, expected, "{key:?}: {text}");
        assert_eq!(text.contains("dripfeed_"), status == 200, "{key:?}: {text}");
    }
    scrape(&app);
}

#[test]
fn without_a_metrics_token_there_is_none() {
    let app = App::start(Setup::default());
    assert_eq!(asked(&app, Some(METRICS)).0, 401);
    assert_eq!(asked(&app, Some("")).0, 401);
    assert_eq!(asked(&app, Some(OPERATOR)).0, 200);
}

#[test]
fn the_metrics_token_can_do_nothing_else() {
    let app = App::start(idle());
    let id = app.accepted(people(2));
    let document = seen(&app, "/openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let mut tried = 0;
    for (path, calls) in paths {
        let path =
            path.replace("{id}", &id).replace("{number}", "1").replace("{name}", "acme").replace("{session}", "1");
        for (method, call) in calls.as_object().expect("calls") {
            if call["security"] == json!([]) || path == "/metrics" {
                continue;
            }
            let told = call_with(&app, method, &path);
            assert_eq!(told, 403, "{method} {path}");
            tried += 1;
        }
    }
    assert!(tried > 35, "{tried}");
    let (status, answer) = app.post_json("", "/session", &json!({ "key": METRICS }));
    assert_eq!(status, 403, "{answer}");
    assert_eq!(app.upload(METRICS, people(1)).0, 403);
    assert_eq!(app.batch(&id)["counts"]["total"], 2, "nothing was changed");
}

/// The status that a call with the metrics token gets.
fn call_with(app: &App, method: &str, path: &str) -> u16 {
    let request = ureq::http::Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(app.url(path))
        .header("Authorization", format!("Bearer {METRICS}"))
        .body(())
        .expect("a request");
    super::agent().run(request).expect("an answer").status().as_u16()
}

#[test]
fn no_limit_of_requests_holds_a_scrape_up() {
    let more = "[limits]\nrequests_per_minute = 1".to_owned();
    let app = App::start(Setup { more, ..idle() });
    let statuses: Vec<u16> = (0..3).map(|_| app.get(OPERATOR, "/ops/v1/stuck").0).collect();
    assert_eq!(statuses, [200, 429, 429]);
    for key in [OPERATOR, METRICS, OPERATOR, METRICS] {
        assert_eq!(asked(&app, Some(key)).0, 200);
    }
}

#[test]
fn the_description_tells_of_it() {
    let app = App::start(idle());
    let document = seen(&app, "/openapi.json");
    let call = &document["paths"]["/metrics"]["get"];
    assert_eq!(call["responses"]["200"]["content"]["text/plain"]["schema"]["type"], "string", "{call}");
    assert_eq!(call["description"], "For operators, and for the metrics token.");
    assert_ne!(call["security"], Value::Array(Vec::new()));
}
