//! What an operator looks at: everybody's batches, claims that are stuck, and how everything is.

use serde_json::{Value, json};

use super::{
    idle,
    support::app::{App, OPERATOR, Setup, people},
};
use dripfeed::simulator::SimulatorOptions;

fn ids(list: &Value) -> Vec<&str> {
    list["batches"].as_array().expect("a list").iter().map(|batch| batch["id"].as_str().expect("an id")).collect()
}

#[test]
fn batches_of_everybody_are_listed_by_client_and_status_and_trouble_comes_first() {
    let app = App::start(idle());
    let globex = app.add_client("globex", None);
    let first = app.accepted(people(2));
    let second = app.accepted(people(3));
    let theirs = app.upload(&globex, people(2)).1["id"].as_str().expect("an id").to_owned();
    for id in [&first, &second] {
        app.until_status(id, "queued");
    }
    app.until("theirs is extracted", || (app.batch_of(&globex, &theirs)["status"] == "queued").then_some(()));
    app.post(OPERATOR, &format!("/v2/batches/{second}/cancel"));
    app.post(OPERATOR, &format!("/v2/batches/{first}/pause"));
    app.until_status(&second, "cancelled");

    let list = |query: &str| {
        let (status, list) = app.get(OPERATOR, &format!("/ops/v1/batches{query}"));
        assert_eq!(status, 200, "{list}");
        list
    };
    assert_eq!(ids(&list("")), [&theirs, &second, &first]);
    assert_eq!(list("")["batches"][0]["client"], "globex");
    assert_eq!(ids(&list("?client=acme")), [&second, &first]);
    assert_eq!(ids(&list("?status=queued")), [&theirs, &first]);
    assert_eq!(ids(&list("?client=acme&status=queued")), [&first[..]]);
    assert_eq!(ids(&list("?client=globex&status=cancelled")), Vec::<&str>::new());
    let page = list("?limit=2");
    assert_eq!((ids(&page), page["next"].as_str()), (vec![&theirs[..], &second], Some(&second[..])));
    let page = list(&format!("?limit=2&after={second}"));
    assert_eq!((ids(&page), &page["next"]), (vec![&first[..]], &Value::Null));
    assert_eq!(app.get(OPERATOR, "/ops/v1/batches?client=nobody").0, 404);
    assert_eq!(app.get(OPERATOR, "/ops/v1/batches?status=odd").0, 400);
    assert_eq!(app.get(&globex, "/ops/v1/batches").0, 403);

    let (_, overview) = app.get(OPERATOR, "/ops/v1/overview");
    assert_eq!(ids(&overview), [&first, &theirs, &second], "the paused one first, the finished one last");
    let clients: Vec<_> = overview["clients"].as_array().expect("clients").iter().collect();
    assert_eq!(
        clients.iter().map(|it| (&it["name"], &it["pending"], &it["limit"])).collect::<Vec<_>>(),
        [(&json!("acme"), &json!(2), &json!(500)), (&json!("globex"), &json!(2), &json!(500))]
    );
    assert_eq!(overview["stuck"], json!({ "rows": 0, "batches": 0 }));
    for size in ["database_bytes", "wal_bytes", "disk_free_bytes", "disk_total_bytes"] {
        assert!(overview["storage"][size].as_u64() > Some(0), "{size}: {overview}");
    }
    assert_eq!(overview["dependencies"].as_array().map(Vec::len), Some(2));
}

#[test]
fn stuck_claims_are_looked_at_and_freed_over_the_api() {
    let setup = Setup { workers: "under_way = 32\nclaim_ttl = \"1s\"\nauto_rescue = false".into(), ..idle() };
    let hanging = SimulatorOptions { hang: 1.0, ..SimulatorOptions::default() };
    let app = App::start(Setup { simulator: hanging, ..setup });
    let [id, other] = [2, 3].map(|rows| app.accepted(people(rows)));
    for id in [&id, &other] {
        app.until_status(id, "queued");
    }
    let mut command = app.spawn(&["row", "run", &format!("{id}/1")]);
    app.until("its call is under way", || (app.stats().calls.total() == 1).then_some(()));
    command.kill().expect("killed");
    command.wait().expect("reaped");
    let listed = app.until("its claim has expired", || {
        let (_, stuck) = app.get(OPERATOR, "/ops/v1/stuck");
        (stuck["rows"].as_array().is_some_and(|rows| rows.len() == 1)).then_some(stuck)
    });
    assert_eq!(
        (&listed["rows"][0]["row"], &listed["rows"][0]["becomes"], &listed["applied"]),
        (&json!(format!("{id}/1")), &json!("pending"), &Value::Null)
    );
    let (status, dry) = app.post(OPERATOR, "/ops/v1/stuck/reconcile");
    assert_eq!((status, &dry), (200, &listed), "without `apply` nothing is changed");
    assert_eq!(app.batch(&id)["counts"]["processing"], 1);
    assert_eq!(app.get(&app.key, "/ops/v1/stuck").0, 403);
    assert_eq!(app.post_json(&app.key, "/ops/v1/stuck/reconcile", &json!({ "apply": true })).0, 403);

    let (status, freed) =
        app.post_json(OPERATOR, "/ops/v1/stuck/reconcile", &json!({ "apply": true, "reason": "tidy" }));
    assert_eq!((status, &freed["applied"]), (200, &json!({ "rows": 1, "batches": 0 })), "{freed}");
    assert_eq!(app.batch(&id)["counts"]["pending"], 2);
    assert_eq!(app.get(OPERATOR, "/ops/v1/stuck").1["rows"], json!([]));
    let (_, audit) = app.get(OPERATOR, "/ops/v1/audit?limit=1");
    let entry = &audit["entries"][0];
    assert_eq!((&entry["action"], &entry["why"]), (&json!("stuck.reconcile"), &json!("tidy")));
}
