//! What failed: groups of errors, lists of failed rows, and what an operator may see of them.

use serde_json::{Value, json};

use super::{count, people_of_whom_rejected};
use crate::support::app::{App, OPERATOR, Setup, people};

fn groups(app: &App, key: &str, id: &str) -> Vec<Value> {
    let (status, answer) = app.get(key, &format!("/v2/batches/{id}/errors"));
    assert_eq!(status, 200, "{answer}");
    answer["groups"].as_array().expect("groups").clone()
}

fn numbers(page: &Value) -> Vec<u64> {
    page["rows"].as_array().expect("rows").iter().map(|row| row["row"].as_u64().expect("a number")).collect()
}

#[test]
fn errors_are_counted_by_what_went_wrong_with_an_example_that_stands_so() {
    let app = App::start(Setup { more: "[workflows.invite]\nmax_attempts = 1".into(), ..Setup::default() });
    let other_key = app.add_client("globex", None);
    let id = app.accepted(people_of_whom_rejected(40, |row| row % 4 == 0));
    let (_, theirs) = app.upload(&other_key, people_of_whom_rejected(5, |row| row == 2));
    let theirs = theirs["id"].as_str().expect("an id").to_owned();
    app.until_status(&id, "completed");
    app.until("theirs is completed", || (app.batch_of(&other_key, &theirs)["status"] == "completed").then_some(()));
    let of_rejected = |count: u32, example: u32| json!({ "step": "invite-create", "code": "rejected", "http_status": 422, "count": count, "example_row": example });
    let found = groups(&app, &app.key, &id);
    assert_eq!(found.len(), 1, "{found:?}");
    let example = found[0]["example_row"].as_u64().expect("an example");
    assert_eq!((&found[0], example % 4), (&of_rejected(10, example as u32), 0));
    assert_eq!(groups(&app, &other_key, &theirs), [of_rejected(1, 2)]);
    assert_eq!(app.get(&other_key, &format!("/v2/batches/{id}/errors")).0, 404);

    // Everything else fails at another step, in another way, and what was put back is counted no more.
    app.simulator.set_faults(1.0, 0.0);
    let broken = app.accepted(people(3));
    let batch = app.until_status(&broken, "completed");
    assert_eq!(batch["counts"]["failed"], 3);
    let found = groups(&app, &app.key, &broken);
    assert_eq!((&found[0]["step"], &found[0]["count"]), (&json!("address-links"), &json!(3)), "{found:?}");
    app.simulator.set_faults(0.0, 0.0);
    app.post(&app.key, &format!("/v2/batches/{broken}/retry"));
    app.until_status(&broken, "completed");
    assert_eq!(groups(&app, &app.key, &broken), Vec::<Value>::new());
    assert_eq!(groups(&app, &app.key, &id)[0]["count"], 10);
}

#[test]
fn failed_rows_are_listed_page_by_page_however_many_others_lie_between() {
    let app = App::start(Setup::default());
    let id = app.accepted(people_of_whom_rejected(60, |row| row % 10 == 0));
    app.until_status(&id, "completed");
    let path = format!("/v2/batches/{id}/rows");
    for filter in ["status=failed", "code=rejected", "status=failed&code=rejected"] {
        let (_, first) = app.get(&app.key, &format!("{path}?{filter}&limit=4"));
        assert_eq!((numbers(&first), &first["next"]), (vec![10, 20, 30, 40], &json!("40")), "{filter}");
        let (_, rest) = app.get(&app.key, &format!("{path}?{filter}&limit=4&after=40"));
        assert_eq!((numbers(&rest), &rest["next"]), (vec![50, 60], &Value::Null), "{filter}");
    }
    assert_eq!(numbers(&app.get(&app.key, &format!("{path}?code=timeout")).1), Vec::<u64>::new());
    assert_eq!(numbers(&app.get(&app.key, &format!("{path}?status=processing")).1), Vec::<u64>::new());
    assert_eq!(numbers(&app.get(&app.key, &format!("{path}?status=completed&limit=1000")).1).len(), 54);
    for wrong in ["status=none", "code=none", "colour=red", "limit=0", "after=x"] {
        let (status, problem) = app.get(&app.key, &format!("{path}?{wrong}"));
        assert_eq!((status, &problem["code"]), (400, &json!("bad_request")), "{wrong}");
    }
    let row = app.get(&app.key, &format!("{path}/10")).1;
    assert_eq!((&row["error"]["code"], &row["error"]["http_status"]), (&json!("rejected"), &json!(422)));
    assert_eq!((&row["error"]["step"], &row["steps"][0]["status"]), (&json!("invite-create"), &json!("completed")));
}

#[test]
fn an_operator_sees_values_only_after_a_reveal_that_is_noted() {
    let app = App::start(Setup::default());
    let id = app.accepted(people_of_whom_rejected(2, |row| row == 1));
    app.until_status(&id, "completed");
    let email = |key: &str, path: &str| app.get(key, &format!("/v2/batches/{id}/{path}")).1;
    let of_list = |page: Value| page["rows"][0]["data"]["email"].clone();
    let noted = |action: &str| {
        count(
            &app,
            &format!("SELECT count(*) FROM audit WHERE who = 'root' AND action = '{action}' AND target LIKE ? || '%'"),
            &id,
        )
    };
    assert_eq!(email(OPERATOR, "rows/1")["data"]["email"], "•••");
    assert_eq!(email(OPERATOR, "rows/1")["error"]["body"], "•••");
    assert_eq!(of_list(email(OPERATOR, "rows?reveal=false")), "•••");
    assert_eq!(email(&app.key, "rows/1?reveal=true")["data"]["email"], "p1@rejected.example");
    assert_eq!((noted("row.reveal"), noted("batch.reveal")), (0, 0));
    assert_eq!(email(OPERATOR, "rows/1?reveal=true")["data"]["email"], "p1@rejected.example");
    assert_eq!((noted("row.reveal"), noted("batch.reveal")), (1, 0));
    assert_eq!(of_list(email(OPERATOR, "rows?reveal=true")), "p1@rejected.example");
    assert!(email(OPERATOR, "results.csv?reveal=true").as_str().expect("CSV").contains("p1@rejected.example"));
    assert_eq!((noted("row.reveal"), noted("batch.reveal")), (1, 2));
    assert!(!email(OPERATOR, "results.csv").as_str().expect("CSV").contains("p1@"));
}
