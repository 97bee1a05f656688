//! The OpenAPI document over the wire: each call of it is there, and `Allow` tells the methods that it tells. That the two
//! and the routes are the same set of calls needs no test: they are made from one table (`src/http/routes`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{bearer, call, idle, support::app::App};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The documented methods of each path.
fn documented(app: &App) -> BTreeMap<String, BTreeSet<String>> {
    let document = call(app, "GET", "/openapi.json", &[], "").body;
    assert_eq!(document["openapi"], "3.1.0");
    let methods =
        |calls: &Value| calls.as_object().expect("calls").keys().map(|method| method.to_uppercase()).collect();
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().map(|(path, calls)| (path.clone(), methods(calls))).collect()
}

/// The path of something that is not there, and could be.
fn example(path: &str) -> String {
    path.replace("{id}", "bat_01KB1Y3M0Q8V5T2N7R4C6D9E0F")
        .replace("{number}", "1")
        .replace("{name}", "nobody")
        .replace("{session}", "1")
        .replace("{key}", "default")
}

#[test]
fn every_call_of_the_document_is_there_and_no_other_method_of_its_paths() {
    let app = App::start(idle());
    let paths = documented(&app);
    assert!(paths.len() > 30, "{}", paths.len());
    let key = bearer(&app.key);
    for (path, documented) in &paths {
        for method in METHODS {
            let told = call(&app, method, &example(path), &[], "");
            let is_refused = told.status == 405;
            assert_eq!(is_refused, !documented.contains(method), "{method} {path}: {told:?}");
            assert!(told.status != 404, "{method} {path} is no path: {told:?}");
        }
        let told = call(&app, "OPTIONS", &example(path), &[("authorization", &key)], "");
        let allowed: BTreeSet<String> = told.headers["allow"].split(", ").map(str::to_owned).collect();
        // `HEAD` is not described: it is there wherever `GET` is.
        let head = documented.contains("GET").then(|| "HEAD".to_owned());
        assert_eq!(allowed, documented.iter().cloned().chain(head).collect(), "{path}");
    }
}
