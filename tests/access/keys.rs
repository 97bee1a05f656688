//! Keys and tokens: operators by name, rotation without a pause, removal.

use serde_json::{Value, json};

use super::{
    bearer, call, deeds, idle, printed, said,
    support::app::{App, OPERATOR, people},
};

#[test]
fn operators_have_names_and_tokens_of_their_own() {
    let app = App::start(idle());
    let ann = printed(&app, &["operator", "add", "ann", "--json"]);
    let bob = printed(&app, &["operator", "add", "bob", "--json"]);
    let (ann, bob) = (ann["token"].as_str().expect("a token"), bob["token"].as_str().expect("a token"));
    let id = app.accepted(people(2));
    for token in [ann, bob, OPERATOR] {
        assert_eq!(app.get(token, "/ops/v1/overview").0, 200);
        assert_eq!(app.get(token, &format!("/v2/batches/{id}")).1["client"], "acme");
    }
    assert_eq!(app.get(&app.key, "/ops/v1/overview").0, 403, "a client is no operator");

    app.post_json(ann, "/ops/v1/dispatch/pause", &json!({ "reason": "lunch" }));
    let paused = &app.get(bob, "/ops/v1/overview").1["dispatch"]["paused"];
    assert_eq!((&paused["by"], &paused["reason"]), (&json!("ann"), &json!("lunch")));

    for (name, status) in [("root", 2), ("two words", 2), ("", 2), ("ann", 1)] {
        assert_eq!(app.command(&["operator", "add", name]).status.code(), Some(status), "{name}");
    }
    let listed = printed(&app, &["operator", "list", "--json"]);
    let names: Vec<_> = listed["operators"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert!(!listed.to_string().contains("dfo_"), "no token is told twice");

    assert!(app.command(&["operator", "remove", "ann"]).status.success());
    assert_eq!(app.get(ann, "/ops/v1/overview").0, 401);
    assert_eq!(app.get(bob, "/ops/v1/overview").0, 200);
    let again = app.command(&["operator", "remove", "ann"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("operator list"), "{}", said(&again));
    let database = std::fs::read(app.data_dir().join("dripfeed.db")).expect("a database");
    assert!(!database.windows(bob.len()).any(|window| window == bob.as_bytes()), "only a hash of it is kept");
}

#[test]
fn a_rotated_key_leaves_the_old_one_good_for_as_long_as_is_said() {
    let app = App::start(idle());
    let other = app.add_client("globex", None);
    let works = |key: &str| app.get(key, "/v2/batches").0;
    let rotated = printed(&app, &["client", "rotate-key", "acme", "--json"]);
    let second = rotated["key"].as_str().expect("a key");
    assert_eq!((&rotated["name"], works(&app.key), works(second), works(&other)), (&json!("acme"), 200, 200, 200));
    let old_key_until = || app.get(OPERATOR, "/ops/v1/clients/acme/keys").1["keys"][0]["old_key_until"].clone();
    assert_eq!(old_key_until(), rotated["old_key_until"]);

    let third = printed(&app, &["client", "rotate-key", "acme", "--old-key-works-for", "1s", "--json"]);
    let third = third["key"].as_str().expect("a key");
    assert_eq!((works(&app.key), works(third)), (401, 200), "there is one old key, and not two");
    app.until("the old key is good no more", || (works(second) == 401).then_some(()));
    assert_eq!(old_key_until(), Value::Null);

    let path = "/ops/v1/clients/acme/rotate-key";
    let (status, fourth) = app.post_json(OPERATOR, path, &json!({ "old_key_works_for": "0s" }));
    let fourth = fourth["key"].as_str().expect("a key");
    assert_eq!((status, works(third), works(fourth), works(&other)), (200, 401, 200, 200));
    for wrong in [json!({ "old_key_works_for": "soon" }), json!({ "old_key_works_for": "91d" }), json!({ "x": 1 })] {
        assert_eq!(app.post_json(OPERATOR, path, &wrong).0, 400, "{wrong}");
    }
    assert_eq!(works(fourth), 200, "what was refused has changed nothing");
    assert_eq!(app.post(OPERATOR, "/ops/v1/clients/nobody/rotate-key").0, 404);
    assert_eq!(app.post(fourth, path).0, 403);
    let nobody = app.command(&["client", "rotate-key", "nobody"]);
    assert!(nobody.status.code() == Some(1) && said(&nobody).contains("client list"), "{}", said(&nobody));
}

#[test]
fn clients_are_added_changed_and_removed_over_the_api() {
    let app = App::start(idle());
    let new = call(
        &app,
        "POST",
        "/ops/v1/clients",
        &[("authorization", &bearer(OPERATOR)), super::JSON],
        &json!({ "name": "globex", "rows_per_run": 7 }).to_string(),
    );
    assert_eq!((new.status, new.headers["location"].as_str()), (201, "/ops/v1/clients/globex"), "{new:?}");
    let globex = new.body["key"].as_str().expect("a key");
    assert_eq!(app.get(globex, "/v2/batches").0, 200);
    let (status, taken) = app.post_json(OPERATOR, "/ops/v1/clients", &json!({ "name": "globex" }));
    assert_eq!((status, &taken["code"]), (409, &json!("conflict")));
    for wrong in
        [json!({ "name": "a/b" }), json!({ "name": ".." }), json!({ "name": "x", "rows_per_run": -1 }), json!({})]
    {
        assert_eq!(app.post_json(OPERATOR, "/ops/v1/clients", &wrong).0, 400, "{wrong}");
    }

    let (_, page) = app.get(OPERATOR, "/ops/v1/clients?limit=1");
    assert_eq!((&page["clients"][0]["name"], &page["next"]), (&json!("acme"), &json!("acme")));
    let (_, page) = app.get(OPERATOR, "/ops/v1/clients?limit=5&after=acme");
    assert_eq!(
        (&page["clients"][0]["name"], &page["clients"][0]["limit"], &page["next"]),
        (&json!("globex"), &json!(7), &Value::Null)
    );

    let path = "/ops/v1/clients/globex";
    let (_, changed) = app.patch_json(OPERATOR, path, &json!({ "rows_per_run": null, "paused": true }));
    assert_eq!(
        (&changed["rows_per_run"], &changed["limit"], &changed["paused"]),
        (&Value::Null, &json!(500), &json!(true))
    );
    let (_, changed) = app.patch_json(OPERATOR, path, &json!({ "paused": false }));
    assert_eq!((&changed["rows_per_run"], &changed["paused"]), (&Value::Null, &json!(false)));
    for wrong in [json!({}), json!({ "rows_per_run": 99_000_000 }), json!({ "name": "other" })] {
        assert_eq!(app.patch_json(OPERATOR, path, &wrong).0, 400, "{wrong}");
    }
    assert_eq!(app.patch_json(OPERATOR, "/ops/v1/clients/nobody", &json!({ "paused": true })).0, 404);
    assert_eq!(app.get(OPERATOR, "/ops/v1/clients/acme").1["paused"], false, "the other client was not touched");

    let (_, batch) = app.upload(globex, people(3));
    let id = batch["id"].as_str().expect("an id");
    app.until("it counts as work of its client", || {
        let client = app.get(OPERATOR, path).1;
        (client["pending"] == 3 && client["batches"] == 1).then_some(())
    });
    let remove = || call(&app, "DELETE", path, &[("authorization", &bearer(OPERATOR))], "");
    let refused = remove();
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("conflict")), "{refused:?}");
    assert_eq!(app.command(&["client", "remove", "globex"]).status.code(), Some(1));
    assert_eq!(app.get(globex, "/v2/batches").0, 200, "nothing was changed");
    app.post(OPERATOR, &format!("/v2/batches/{id}/cancel"));
    app.until("its batch has ended", || (app.batch_of(OPERATOR, id)["status"] == "cancelled").then_some(()));
    assert_eq!((remove().status, remove().status), (204, 404));
    assert_eq!((app.get(globex, "/v2/batches").0, app.get(&app.key, "/v2/batches").0), (401, 200));
    assert_eq!(app.batch_of(OPERATOR, id)["client"], "globex", "its batches still have an owner");
    let again = app.command(&["client", "add", "globex"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("there was"), "{}", said(&again));

    let told = deeds(&app, OPERATOR);
    let of_root: Vec<_> = told.iter().filter(|(who, ..)| who == "root").map(|(_, action, _)| action.as_str()).collect();
    assert_eq!(
        of_root,
        ["client.remove", "batch.cancel", "client.resume", "client.pause", "client.limit", "client.add"]
    );
}
