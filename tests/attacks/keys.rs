//! A key that is good for one thing is tried at everything; one that is over, or was taken away, at what it was good for; and
//! somebody looks into the database for one.

use serde_json::{Value, json};

use crate::support::app::{App, OPERATOR, Setup, agent, people};

const UPLOAD: &str = "/v2/client/users/batch/invite";
const KEYS: &str = "/ops/v1/clients/acme/keys";

fn idle() -> App {
    App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() })
}

fn printed(app: &App, arguments: &[&str]) -> Value {
    let output = app.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A key of acme with this scope.
fn key(app: &App, name: &str, scope: &str) -> String {
    let added = printed(app, &["client", "key", "add", "acme", name, "--scope", scope, "--json"]);
    assert_eq!((&added["client"], &added["name"]), (&json!("acme"), &json!(name)));
    added["key"].as_str().expect("a key").to_owned()
}

fn call(app: &App, key: &str, method: &str, path: &str) -> (u16, Value) {
    let request = ureq::http::Request::builder().method(method).uri(app.url(path));
    let request = request.header("authorization", format!("Bearer {key}"));
    let agent = agent();
    let mut answer = match method {
        "GET" => agent.run(request.body(()).expect("a request")),
        _ => {
            let media_type = if path == UPLOAD { "text/csv" } else { "application/json" };
            let request = request.header("content-type", media_type).body("{}").expect("a request");
            agent.run(agent.configure_request(request).allow_non_standard_methods(true).build())
        }
    }
    .expect("an answer");
    let status = answer.status().as_u16();
    if path.ends_with("/events") && status == 200 {
        return (status, Value::Null);
    }
    let text = answer.body_mut().read_to_string().expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Every call of the API's own description: method, path, and the scope that it says it needs.
fn calls(app: &App, id: &str) -> Vec<(String, String, Option<String>)> {
    let document = app.get("", "/openapi.json").1;
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, told) in methods.as_object().expect("methods") {
            let told = told["description"].as_str().expect("who it is for");
            let scope = told.split_once("with the scope `").and_then(|(_, rest)| rest.split('`').next());
            let is_open = told == "Needs no key." || path == "/session";
            if is_open {
                continue;
            }
            let path = path.replace("{id}", id).replace("{name}", "acme").replace("{number}", "1");
            let path = path.replace("{session}", "1").replace("{key}", "reporting");
            calls.push((method.to_uppercase(), path, scope.map(str::to_owned)));
        }
    }
    calls
}

#[test]
fn a_key_does_what_its_scope_says_and_nothing_else_whatever_is_called() {
    let app = idle();
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{id}/pause")).0, 200);
    let scopes = ["upload", "read", "manage"];
    let keys = scopes.map(|scope| key(&app, scope, scope));
    let calls = calls(&app, &id);
    for scope in scopes {
        assert!(calls.iter().filter(|call| call.2.as_deref() == Some(scope)).count() >= 3, "{scope}: {calls:?}");
    }
    // What deletes comes last: the others need the batch.
    let (last, first): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(method, ..)| method == "DELETE");
    for (method, path, needed) in first.into_iter().chain(last) {
        for (scope, key) in scopes.iter().zip(&keys) {
            let (status, told) = call(&app, key, &method, &path);
            if needed.as_deref() == Some(*scope) {
                assert!(![401, 403, 404, 405].contains(&status), "{scope}: {method} {path}: {status} {told}");
                continue;
            }
            assert_eq!(status, 403, "{scope}: {method} {path}: {told}");
            let detail = told["detail"].as_str().expect("a sentence");
            let names = needed.as_ref().map_or_else(|| "operators".to_owned(), |needed| format!("scope `{needed}`"));
            assert!(detail.contains(&names), "{scope}: {method} {path}: {detail}");
        }
        if needed.is_none() {
            assert_eq!(
                call(&app, &app.key, &method, &path).0,
                403,
                "no key of a client is an operator's: {method} {path}"
            );
        }
    }
    let batches = app.get(OPERATOR, "/ops/v1/batches").1;
    assert_eq!(batches["batches"], json!([]), "nothing was uploaded, and who may manage deleted the one there was");
    assert_eq!(app.get(OPERATOR, KEYS).1["keys"].as_array().map(Vec::len), Some(4), "no key was made or removed");

    // One may have two of them, and a session has what its key has.
    let two = key(&app, "two", "read,upload");
    assert_eq!(app.upload(&two, people(3)).0, 202);
    assert_eq!(app.get(&two, "/v2/batches").0, 200);
    assert_eq!(app.post(&two, &format!("/v2/batches/{id}/resume")).0, 403);
    let request = agent().post(app.url("/session")).header("Content-Type", "application/json");
    let mut answer = request.send(json!({ "key": two }).to_string()).expect("an answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
    let who: Value = serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON");
    assert_eq!((&who["name"], &who["scopes"]), (&json!("acme"), &json!(["upload", "read"])));
    let by_page = |path: &str| {
        let request = agent().post(app.url(path)).header("Cookie", &cookie).header("X-Dripfeed", "page");
        request.header("Origin", app.url("")).send_empty().expect("an answer").status().as_u16()
    };
    assert_eq!(by_page(&format!("/v2/batches/{id}/resume")), 403);
}

#[test]
fn keys_are_added_listed_used_rotated_and_removed_by_every_door() {
    let app = idle();
    let listed = |name: &str| {
        let list = app.get(OPERATOR, KEYS).1;
        assert_eq!(list["next"], Value::Null);
        let keys = list["keys"].as_array().expect("keys").clone();
        keys.into_iter().find(|key| key["name"] == name).unwrap_or_default()
    };
    assert_eq!(
        listed("default")["scopes"],
        json!(["upload", "read", "manage"]),
        "the first key is good for everything"
    );
    let wanted = json!({ "name": "job", "scopes": ["read"], "expires": "30d" });
    let (status, added) = app.post_json(OPERATOR, KEYS, &wanted);
    assert_eq!((status, &added["scopes"]), (201, &json!(["read"])), "{added}");
    let job = added["key"].as_str().expect("a key").to_owned();
    assert_eq!((&listed("job")["expires_at"], &listed("job")["last_used_at"]), (&added["expires_at"], &Value::Null));
    assert_eq!(printed(&app, &["client", "key", "list", "acme", "--json"]), app.get(OPERATOR, KEYS).1);

    // Its last use is told, and costs no write for each.
    assert_eq!(app.get(&job, "/v2/batches").0, 200);
    let first = app.until("its use is noted", || Some(listed("job")["last_used_at"].clone()).filter(Value::is_string));
    for _ in 0..20 {
        assert_eq!(app.get(&job, "/v2/batches").0, 200);
    }
    let other = key(&app, "other", "read");
    assert_eq!(app.get(&other, "/v2/batches").0, 200);
    app.until("another one's is noted", || listed("other")["last_used_at"].as_str().map(drop));
    assert_eq!(listed("job")["last_used_at"], first, "once a minute at most");

    // Another value for one of them leaves the others alone.
    let rotated = printed(&app, &["client", "rotate-key", "acme", "--key", "job", "--now", "--json"]);
    let new = rotated["key"].as_str().expect("a key").to_owned();
    let works = |key: &str| app.get(key, "/v2/batches").0;
    assert_eq!((works(&job), works(&new), works(&other), works(&app.key)), (401, 200, 200, 200));
    let (status, rotated) = app.post_json(OPERATOR, "/ops/v1/clients/acme/rotate-key", &json!({ "key": "job" }));
    assert_eq!((status, works(&new)), (200, 200), "the old one is good for a day: {rotated}");
    assert_eq!(listed("job")["old_key_until"], rotated["old_key_until"]);
    assert_eq!(listed("job")["scopes"], json!(["read"]), "it is good for what it was");

    assert!(app.command(&["client", "key", "remove", "acme", "job"]).status.success());
    assert_eq!((works(&new), works(rotated["key"].as_str().expect("a key")), works(&other)), (401, 401, 200));
    let path = format!("{KEYS}/other");
    assert_eq!((app.delete(OPERATOR, &path).0, app.delete(OPERATOR, &path).0, works(&other)), (204, 404, 401));
    assert_eq!(works(&app.key), 200);

    for (wrong, status) in [
        (json!({ "name": "default" }), 409),
        (json!({ "name": "a/b" }), 400),
        (json!({ "name": "x", "scopes": [] }), 400),
        (json!({ "name": "x", "scopes": ["all"] }), 400),
        (json!({ "name": "x", "expires": "2020-01-01T00:00:00Z" }), 400),
        (json!({ "name": "x", "expires": "soon" }), 400),
    ] {
        assert_eq!(app.post_json(OPERATOR, KEYS, &wrong).0, status, "{wrong}");
    }
    for absurd in ["3651d", "99999999999d", "9999-12-31T23:59:59Z"] {
        let (status, told) = app.post_json(OPERATOR, KEYS, &json!({ "name": "x", "expires": absurd }));
        assert!(status == 400 && told.to_string().contains("within 3650d"), "{absurd}: {told}");
    }
    assert_eq!(app.get(OPERATOR, "/ops/v1/clients/nobody/keys").0, 404);
    assert_eq!(app.post_json(OPERATOR, "/ops/v1/clients/acme/rotate-key", &json!({ "key": "nobody" })).0, 404);
    for (arguments, status) in [
        (&["client", "key", "add", "acme", "default"][..], 1),
        (&["client", "key", "add", "acme", "x", "--scope", "god"], 2),
        (&["client", "key", "add", "acme", "x", "--expires", "0s"], 2),
        (&["client", "key", "add", "acme", "x", "--expires", "99999999999d"], 2),
        (&["client", "key", "remove", "acme", "nobody"], 1),
        (&["client", "key", "list", "nobody"], 1),
    ] {
        assert_eq!(app.command(arguments).status.code(), Some(status), "{arguments:?}");
    }
    for number in 1..32 {
        assert_eq!(app.post_json(OPERATOR, KEYS, &json!({ "name": format!("k{number}") })).0, 201);
    }
    let (status, full) = app.post_json(OPERATOR, KEYS, &json!({ "name": "one-more" }));
    assert_eq!(status, 409, "{full}");

    let entries = app.get(OPERATOR, "/ops/v1/audit?limit=1000").1;
    let entries = entries["entries"].as_array().expect("entries");
    let of =
        |action: &str| entries.iter().filter(|entry| entry["action"] == action && entry["target"] == "acme").count();
    assert_eq!((of("client.key-add"), of("client.key-remove"), of("client.rotate-key")), (33, 2, 2));
    let told = app.get(OPERATOR, "/ops/v1/audit?limit=1000").1.to_string() + &app.log();
    for key in [&job, &new, &other] {
        assert!(!told.contains(key.as_str()), "a key is in the audit or the log");
        for file in ["dripfeed.db", "dripfeed.db-wal"] {
            let bytes = std::fs::read(app.data_dir().join(file)).unwrap_or_default();
            assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "only a hash of it is kept");
        }
    }
}
