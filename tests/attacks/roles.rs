//! Somebody who may look tries to change and to see more; somebody who does the daily work tries to let others in; a role
//! that is taken back while it is in use.

use serde_json::{Value, json};

use crate::support::app::{App, OPERATOR, Setup, agent, people};

fn idle() -> App {
    App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() })
}

fn printed(app: &App, arguments: &[&str]) -> Value {
    let output = app.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn operator(app: &App, name: &str, role: &str) -> String {
    printed(app, &["operator", "add", name, "--role", role, "--json"])["token"].as_str().expect("a token").to_owned()
}

/// A call with a small JSON body, where it is a change.
fn call(app: &App, token: &str, method: &str, path: &str) -> (u16, Value) {
    let request = ureq::http::Request::builder().method(method).uri(app.url(path));
    let request = request.header("authorization", format!("Bearer {token}"));
    let agent = agent();
    let mut answer = match method {
        "GET" => agent.run(request.body(()).expect("a request")),
        _ => {
            let request = request.header("content-type", "application/json").body("{}").expect("a request");
            agent.run(agent.configure_request(request).allow_non_standard_methods(true).build())
        }
    }
    .expect("an answer");
    let text = answer.body_mut().read_to_string().expect("a body");
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn sign_in(app: &App, key: &str) -> String {
    let request = agent().post(app.url("/session")).header("Content-Type", "application/json");
    let answer = request.send(json!({ "key": key }).to_string()).expect("an answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().expect("a cookie").to_owned()
}

fn shows(app: &App, cookie: &str) -> (u16, Value) {
    let mut answer = agent().get(app.url("/session")).header("Cookie", cookie).call().expect("an answer");
    let text = answer.body_mut().read_to_string().expect("a body");
    (answer.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
}

/// Every call of the API's own description that changes something, or tells who is signed in.
pub fn calls(app: &App, id: &str) -> Vec<(String, String, bool)> {
    let document = app.get("", "/openapi.json").1;
    let paths = document["paths"].as_object().expect("paths");
    let mut calls = Vec::new();
    for (path, methods) in paths {
        for (method, told) in methods.as_object().expect("methods").iter().filter(|(name, _)| *name != "parameters") {
            let is_admins = told["description"].as_str().is_some_and(|told| told.contains("with the role `admin`"));
            let path =
                path.replace("{id}", id).replace("{name}", "acme").replace("{session}", "1").replace("{key}", "x");
            calls.push((method.to_uppercase(), path.replace("{number}", "1"), is_admins));
        }
    }
    assert!(calls.len() > 30 && calls.iter().filter(|(.., is_admins)| *is_admins).count() >= 7, "{calls:?}");
    calls
}

#[test]
fn a_viewer_changes_and_reveals_nothing_and_an_operator_lets_nobody_in() {
    let app = idle();
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    let (viewer, daily) = (operator(&app, "vera", "viewer"), operator(&app, "otto", "operator"));
    let noted = || app.get(OPERATOR, "/ops/v1/audit?limit=1000").1["entries"].as_array().expect("entries").len();
    let before = noted();
    for (method, path, is_admins) in calls(&app, &id) {
        let is_sign_in = path == "/session";
        let is_change = method != "GET" && !is_sign_in;
        // Only a client uploads.
        if is_change || is_admins {
            let (status, problem) = call(&app, &viewer, &method, &path);
            assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "viewer: {method} {path}: {problem}");
        }
        if is_admins {
            let (status, problem) = call(&app, &daily, &method, &path);
            assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "operator: {method} {path}: {problem}");
        }
    }
    for path in ["rows?reveal=true", "rows/1?reveal=true", "results.csv?reveal=true"] {
        let path = format!("/v2/batches/{id}/{path}");
        assert_eq!(call(&app, &viewer, "GET", &path).0, 403, "{path}");
        assert!([200, 403].contains(&call(&app, &daily, "GET", &path).0), "{path}");
    }
    assert_eq!(noted() - before, 3, "the three looks of the operator, and nothing else");
    for path in ["/ops/v1/overview", "/ops/v1/clients", "/ops/v1/audit", &format!("/v2/batches/{id}/rows")] {
        assert_eq!(call(&app, &viewer, "GET", path).0, 200, "{path}");
    }
    let (_, rows) = call(&app, &viewer, "GET", &format!("/v2/batches/{id}/rows"));
    assert!(!rows.to_string().contains("mail.example"), "{rows}");
    assert_eq!(app.batch(&id)["status"], "queued", "nothing became of all that");
    assert_eq!(call(&app, &daily, "POST", &format!("/v2/batches/{id}/pause")).0, 200, "that is the daily work");

    // By the page too, and from the next request on when the role changes.
    let page = sign_in(&app, &viewer);
    assert_eq!(shows(&app, &page).1["role"], "viewer");
    assert!(app.command(&["operator", "role", "vera", "admin"]).status.success());
    assert_eq!(shows(&app, &page).1["role"], "admin");
    let (status, added) = app.post_json(&viewer, "/ops/v1/clients", &json!({ "name": "globex" }));
    assert_eq!(status, 201, "{added}");
    assert!(app.command(&["operator", "role", "vera", "viewer"]).status.success());
    assert_eq!(call(&app, &viewer, "DELETE", "/ops/v1/clients/globex").0, 403);
    assert_eq!(app.command(&["operator", "role", "nobody", "viewer"]).status.code(), Some(1));
    assert_eq!(app.command(&["operator", "add", "x", "--role", "god"]).status.code(), Some(2));
}

#[test]
fn sessions_are_listed_and_ended_by_every_door() {
    let app = idle();
    let admin = operator(&app, "ada", "admin");
    let mut cookies: Vec<_> = (0..3).map(|_| sign_in(&app, &app.key)).collect();
    cookies.push(sign_in(&app, &admin));
    let list = || app.get(&admin, "/ops/v1/sessions").1["sessions"].as_array().expect("sessions").clone();
    let listed = list();
    let whose: Vec<_> = listed.iter().map(|it| it["who"].as_str().expect("who")).collect();
    assert_eq!(whose, ["ada", "client:acme", "client:acme", "client:acme"], "newest first");
    assert!(listed.iter().all(|it| it["from"] == "127.0.0.1"), "{listed:?}");
    assert_eq!(printed(&app, &["sessions", "list", "--json"])["sessions"], json!(listed));
    let (_, page) = app.get(&admin, "/ops/v1/sessions?limit=3");
    assert_eq!((page["sessions"].as_array().map(Vec::len), &page["next"]), (Some(3), &listed[2]["id"]));

    let oldest = listed[3]["id"].as_str().expect("an id");
    let path = format!("/ops/v1/sessions/{oldest}");
    assert_eq!((app.delete(&app.key, &path).0, app.delete(&admin, &path).0), (403, 204));
    assert_eq!(app.delete(&admin, &path).0, 404);
    let good = || cookies.iter().map(|cookie| shows(&app, cookie).0).collect::<Vec<_>>();
    assert_eq!(good(), [401, 200, 200, 200]);
    assert!(app.command(&["sessions", "end", "--of", "client:acme"]).status.success());
    assert_eq!((good(), list().len()), (vec![401, 401, 401, 200], 1));
    assert!(app.command(&["sessions", "end", "--all"]).status.success());
    assert_eq!((good(), list().len()), (vec![401; 4], 0));
    assert_eq!(app.get(&app.key, "/v2/batches").0, 200, "keys are as good as before");
    for (arguments, status) in [(&["sessions", "end"][..], 2), (&["sessions", "end", "99"], 1)] {
        assert_eq!(app.command(arguments).status.code(), Some(status), "{arguments:?}");
    }
    for who in ["adda", "acme", "client:ada", "client:", ""] {
        let ended = app.command(&["sessions", "end", "--of", who]);
        assert_eq!(ended.status.code(), Some(1), "nobody is called {who}");
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(told.contains(&format!("`{who}`")) && told.contains("`dripfeed sessions list`"), "{told}");
    }
    for who in ["ada", "root", "client:acme"] {
        assert!(app.command(&["sessions", "end", "--of", who]).status.success(), "{who} has none, and that is fine");
    }
    let (_, audit) = app.get(OPERATOR, "/ops/v1/audit");
    let ended = audit["entries"].as_array().expect("entries").iter().filter(|entry| entry["action"] == "session.end");
    assert_eq!(ended.count(), 3, "{audit}");
    // One whose key is gone is none.
    sign_in(&app, &app.key);
    assert_eq!(list().len(), 1);
    app.command(&["client", "rotate-key", "acme", "--now"]);
    assert_eq!(list().len(), 0);
}
