//! Workflows that are edited while batches of them are under way: a batch is worked by the one that it was accepted under,
//! until somebody moves it to the present one; and where that calls a dependency that is not there any more, it says so.

mod edits;
mod missing;
#[path = "../support/mod.rs"]
mod support;
mod unknown;
mod upgrades;
#[allow(dead_code, reason = "what the vendors' tests need more of it")]
#[path = "../vendors/zoo.rs"]
mod zoo;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};
use support::{
    app::{App, OPERATOR, Setup},
    server::{Server, status},
};
use zoo::{QUICK, created, dependency, email, post, setup, who, workflow};

/// Behind this line the configuration is edited.
const EDITED: &str = "# edited from here on";

/// The dependency `api`, and the workflow `chain` of these steps.
fn chain(server: &Server, steps: &[String]) -> String {
    dependency("api", server.address, QUICK) + &workflow("chain", "", steps)
}

/// Steps of the dependency `api` that post the row's address to `/NAME`.
fn steps(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| post(name, "api", "")).collect()
}

/// An appliance whose configuration ends in this.
fn configured(more: &str) -> App {
    App::start(Setup {
        more: format!("[alerts]\ncheck_every = \"100ms\"\ndisk_free_below = \"0B\"\n{EDITED}\n{more}"),
        ..setup(&[])
    })
}

/// Puts this in the place of what the configuration ends in.
fn edit(app: &App, more: &str) {
    let path = app.folder.path().join("dripfeed.toml");
    let before = std::fs::read_to_string(&path).expect("the configuration");
    let (kept, _) = before.split_once(EDITED).expect("the line");
    std::fs::write(path, format!("{kept}{EDITED}\n{more}")).expect("written");
}

/// Ends the server in order, and starts it with another configuration.
fn restart_with(app: &mut App, more: &str) {
    app.terminate();
    edit(app, more);
    app.serve();
}

/// A vendor of whom `/b` does not work until it is mended: 422 where the row's name begins with `refused`, else 500.
fn broken_at_b() -> (Server, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let heals = mended.clone();
    let server = Server::start(move |request| match request.path() {
        "/b" if heals.load(SeqCst) => created(request),
        "/b" if who(request).starts_with("refused") => status(422),
        "/b" => status(500),
        _ => created(request),
    });
    (server, mended)
}

/// The paths at which each address came, in order.
fn ways(server: &Server) -> BTreeMap<String, Vec<String>> {
    let mut ways = BTreeMap::<_, Vec<_>>::new();
    for request in server.received() {
        ways.entry(email(&request)).or_default().push(request.path().trim_start_matches('/').to_owned());
    }
    ways
}

/// The same without what was only tried again.
fn ways_once(server: &Server) -> BTreeMap<String, Vec<String>> {
    let mut ways = ways(server);
    ways.values_mut().for_each(Vec::dedup);
    ways
}

/// Waits until every one of these addresses was at `/b`, and none of the batch's rows is under way.
fn all_at_b(app: &App, server: &Server, id: &str, rows: usize) {
    app.until("all rows were at `b`", || {
        let at_b = ways(server).values().filter(|way| way.iter().any(|step| step == "b")).count();
        (at_b == rows && app.batch(id)["counts"]["processing"] == 0).then_some(())
    });
}

/// The steps of each row that were called, with how many requests and how they stand, by address.
fn histories(app: &App, id: &str) -> BTreeMap<String, Vec<(String, u64, String)>> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of_step =
        |step: &Value| (text(&step["name"]), step["requests"].as_u64().expect("a count"), text(&step["status"]));
    let of_row = |row: &Value| {
        let steps = row["steps"].as_array().expect("steps").iter().map(of_step).collect();
        (text(&row["data"]["email"]), steps)
    };
    app.rows(id).iter().map(of_row).collect()
}

/// Every row's history tells just the requests that the vendor had, and nothing is left of them to be done.
fn assert_histories_are_true(app: &App, server: &Server, id: &str) {
    let ways = ways(server);
    for (email, history) in histories(app, id) {
        let mut had = BTreeMap::<&str, u64>::new();
        ways[&email].iter().for_each(|step| *had.entry(step).or_default() += 1);
        let told = history.iter().map(|(name, requests, _)| (name.as_str(), *requests)).collect();
        assert_eq!(had, told, "{email}");
        assert!(history.iter().all(|(_, _, status)| status == "completed"), "{email}: {history:?}");
    }
}

/// Moves a batch to the present version: status, and what is said.
fn upgrade(app: &App, id: &str) -> (u16, Value) {
    app.post(OPERATOR, &format!("/v2/batches/{id}/upgrade"))
}

/// That it is refused, with a sentence that has this in it.
fn assert_keeps(app: &App, id: &str, why: &str) {
    let (status, said) = upgrade(app, id);
    assert_eq!((status, &said["code"]), (409, &json!("conflict")), "{said}");
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{said} has no `{why}`");
}

fn act(app: &App, id: &str, act: &str) -> Value {
    let (status, said) = app.post(OPERATOR, &format!("/v2/batches/{id}/{act}"));
    assert_eq!(status, 200, "{act}: {said}");
    said
}

/// How many versions of workflows are kept.
fn versions(app: &App) -> i64 {
    let count = "SELECT count(*) FROM workflow_versions WHERE name = 'chain'";
    zoo::database(app).query_row(count, [], |row| row.get(0)).expect("a count")
}

/// The server's lines of this event about this batch.
fn told(app: &App, event: &str, id: &str) -> Vec<Value> {
    app.events().into_iter().filter(|line| line["event"] == event && line["batch"] == json!(id)).collect()
}
