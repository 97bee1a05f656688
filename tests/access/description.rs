//! The OpenAPI document and the routes are the same set of calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

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

/// The routes as they are named in the sources, where each handler says its own.
fn routes_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            routes_in(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let named = text.split("answer(\"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(named.filter(|route| route.starts_with('/')).map(str::to_owned));
    }
}

#[test]
fn every_route_is_in_the_document() {
    let app = App::start(idle());
    let paths = documented(&app);
    let mut routes = BTreeSet::new();
    routes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), &mut routes);
    assert!(routes.len() > 25, "{routes:?}");
    for route in routes {
        let path = route
            .replace("/ID", "/{id}")
            .replace("/NUMBER", "/{number}")
            .replace("/NAME", "/{name}")
            .replace("/SESSION", "/{session}")
            .replace("/KEY", "/{key}");
        assert!(paths.contains_key(&path), "{route} is not described");
    }
}
