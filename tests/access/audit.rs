//! The audit: who did what, when, from where and why.

use serde_json::{Value, json};

use super::{
    JSON, bearer, call, deeds, idle, printed, said,
    support::app::{App, OPERATOR, Setup, people},
};

#[test]
fn what_operators_do_is_told_with_where_from_and_why() {
    let app = App::start(Setup { server: "trusted_proxies = [\"127.0.0.1\"]".into(), ..idle() });
    let [first, second] = [2, 3].map(|rows| app.accepted(people(rows)));
    let from = [("authorization", &bearer(OPERATOR)[..]), JSON, ("x-forwarded-for", "198.51.100.9")];
    let pause = format!("/v2/batches/{first}/pause");
    let paused = call(&app, "POST", &pause, &from, &json!({ "reason": "vendor maintenance" }).to_string());
    assert_eq!(paused.status, 200, "{paused:?}");
    app.until_status(&first, "queued");
    let waits = app.batch(&first)["waiting_for"].as_str().expect("a sentence").to_owned();
    assert!(waits.ends_with(": vendor maintenance"), "{waits}");
    let (_, audit) = app.get(OPERATOR, "/ops/v1/audit?limit=1");
    let entry = &audit["entries"][0];
    assert_eq!(
        (&entry["who"], &entry["action"], &entry["target"], &entry["from"], &entry["why"]),
        (&json!("root"), &json!("batch.pause"), &json!(first), &json!("198.51.100.9"), &json!("vendor maintenance"))
    );

    app.post(OPERATOR, &format!("/v2/batches/{first}/resume"));
    app.post(OPERATOR, &format!("/v2/batches/{second}/cancel"));
    let conflict = app.until("it has ended", || {
        Some(app.post(OPERATOR, &format!("/v2/batches/{second}/cancel"))).filter(|(status, _)| *status == 409)
    });
    assert_eq!(conflict.1["code"], "conflict");
    app.post(&app.key, &format!("/v2/batches/{first}/pause"));
    app.patch_json(OPERATOR, "/ops/v1/dependencies/addresses", &json!({ "rate_per_second": 7 }));
    app.patch_json(OPERATOR, "/ops/v1/dependencies/nowhere", &json!({ "rate_per_second": 7 }));
    app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &json!({ "reason": "lunch" }));
    app.post(OPERATOR, "/ops/v1/dispatch/resume");
    app.post(OPERATOR, "/ops/v1/clients/acme/rotate-key");
    app.post_json(OPERATOR, "/ops/v1/stuck/reconcile", &json!({ "apply": true }));
    app.post_json(OPERATOR, "/ops/v1/stuck/reconcile", &json!({}));
    let told: Vec<_> = deeds(&app, OPERATOR).into_iter().filter(|(who, ..)| who == "root").collect();
    let told: Vec<_> = told.iter().map(|(_, action, target)| (action.as_str(), target.as_str())).collect();
    let cancels = told.iter().filter(|(action, _)| *action == "batch.cancel").count();
    let expected = [
        ("stuck.reconcile", "expired claims"),
        ("client.rotate-key", "acme"),
        ("dispatch.resume", "dispatch"),
        ("dispatch.pause", "dispatch"),
        ("dependency.rate", "addresses"),
    ];
    assert_eq!(told[..5], expected, "what a client did, what was refused and what changed nothing is not told");
    assert!(cancels >= 1 && told.contains(&("batch.resume", &first[..])), "{told:?}");
    assert_eq!(app.get(&app.key, "/ops/v1/audit").0, 403);
}

#[test]
fn commands_are_told_with_the_systems_user_and_pages_have_no_gaps() {
    let app = App::start(idle());
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    for arguments in [
        &["batch", "pause", &id, "--reason", "by hand\nand more"][..],
        &["batch", "resume", &id],
        &["client", "limit", "acme", "--rows-per-run", "9"],
        &["client", "pause", "acme"],
        &["client", "resume", "acme"],
        &["operator", "add", "ann"],
        &["row", "run", &format!("{id}/1")],
        &["stuck", "--apply"],
        &["batch", "cancel", &id],
    ] {
        let ran = app.command(arguments);
        assert!(ran.status.success(), "{arguments:?}: {}", said(&ran));
    }
    assert_eq!(app.command(&["batch", "cancel", &id]).status.code(), Some(1));
    let all = printed(&app, &["audit", "--json"]);
    let entries = all["entries"].as_array().expect("entries");
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().expect("an action")).collect();
    let expected = [
        "batch.cancel",
        "stuck.reconcile",
        "row.run",
        "operator.add",
        "client.resume",
        "client.pause",
        "client.limit",
        "batch.resume",
        "batch.pause",
        "client.add",
    ];
    assert_eq!(actions, expected);
    let me = format!("uid:{}", rustix::process::getuid().as_raw());
    assert!(entries.iter().all(|entry| entry["who"] == me && entry["from"] == "command"), "{all}");
    let table = said(&app.command(&["audit", "--since", "1h"]));
    assert_eq!(table.lines().count(), expected.len() + 1, "an entry is a line, whatever was typed: {table}");

    let mut paged = Vec::new();
    let mut path = "/ops/v1/audit?limit=3".to_owned();
    loop {
        let (status, page) = app.get(OPERATOR, &path);
        assert_eq!(status, 200, "{page}");
        paged.extend(page["entries"].as_array().expect("entries").iter().cloned());
        match page["next"].as_str() {
            Some(next) => path = format!("/ops/v1/audit?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, entries);
    let newest = entries[0]["at"].as_str().expect("a time");
    let (_, since) = app.get(OPERATOR, &format!("/ops/v1/audit?since={newest}"));
    assert_eq!((&since["entries"][0], &since["next"]), (&entries[0], &Value::Null));
    let future = printed(&app, &["audit", "--since", "2999-01-01T00:00:00Z", "--json"]);
    assert_eq!(future["entries"], json!([]));
    for wrong in ["since=yesterday", "after=x", "limit=0", "until=now"] {
        assert_eq!(app.get(OPERATOR, &format!("/ops/v1/audit?{wrong}")).0, 400, "{wrong}");
    }
    assert_eq!(app.command(&["audit", "--since", "yesterday"]).status.code(), Some(2));
}
