//! `batch upgrade`: a batch goes on by the present version of its workflow, where no row has been elsewhere.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use serde_json::{Value, json};

use crate::{
    act, all_at_b, assert_histories_are_true, assert_keeps, broken_at_b, chain, configured, edit, histories,
    restart_with, steps,
    support::{
        app::{App, OPERATOR},
        server::{Server, late, status},
    },
    told, upgrade, versions, ways_once,
    zoo::{created, database, dispatch, ended, ends, of, people, post, retry, upload, who},
};

/// The audit's entries about upgrades of this batch.
fn audited(app: &App, id: &str) -> Vec<Value> {
    let (status, audit) = app.get(OPERATOR, "/ops/v1/audit");
    assert_eq!(status, 200, "{audit}");
    let entries = audit["entries"].as_array().expect("entries").iter();
    entries.filter(|entry| entry["action"] == "batch.upgrade" && entry["target"] == json!(id)).cloned().collect()
}

fn names(history: &[(String, u64, String)]) -> Vec<&str> {
    history.iter().map(|(name, _, _)| name.as_str()).collect()
}

#[test]
fn rows_go_on_at_the_step_of_the_name_at_which_they_stand() {
    let (server, mended) = broken_at_b();
    let mut app = configured(&chain(&server, &steps(&["a", "b"])));
    let rows = ["p1@old.example", "p2@old.example", "refused@old.example"];
    let id = upload(&app, &app.key, "chain", &of(rows));
    all_at_b(&app, &server, &id, rows.len());
    dispatch(&app, "pause");
    let begun_by_nobody = upload(&app, &app.key, "chain", &people("new.example", 3));
    app.until_status(&begun_by_nobody, "queued");

    restart_with(&mut app, &chain(&server, &steps(&["x", "a", "y", "b", "c"])));
    let (status, batch) = upgrade(&app, &id);
    assert_eq!(status, 200, "{batch}");
    let output = app.command(&["batch", "upgrade", &begun_by_nobody]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("goes on by"), "{output:?}");
    assert_eq!((audited(&app, &id).len(), audited(&app, &begun_by_nobody).len()), (1, 1));
    assert_eq!(audited(&app, &id)[0]["who"], "root");
    assert_eq!(told(&app, "batch.upgraded", &id).len(), 1);
    assert_eq!(versions(&app), 1, "nobody needs the old one");
    // Once more it changes nothing, and is told as such.
    assert_eq!(upgrade(&app, &id).0, 200);
    let output = app.command(&["batch", "upgrade", &id]);
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("nothing was changed"),
        "{output:?}"
    );
    assert_eq!(audited(&app, &id).len(), 1);

    // What was done is told as it was: neither `x` nor `y` was called for these rows.
    for (email, history) in histories(&app, &id) {
        assert_eq!(names(&history), ["a", "b", "c"], "{email}");
    }
    let failed = app.get(OPERATOR, &format!("/v2/batches/{id}/errors")).1;
    assert_eq!(
        (&failed["groups"][0]["step"], &failed["groups"][0]["example_row"]),
        (&json!("b"), &json!(3)),
        "{failed}"
    );
    let results = app.rows(&id);
    assert_eq!(results[2]["error"]["step"], "b", "{}", results[2]);

    mended.store(true, SeqCst);
    dispatch(&app, "resume");
    ended(&app, &app.key, &id);
    assert_eq!(retry(&app, &id, "?step=b")["rows"], 1);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], rows.len());
    ended(&app, &app.key, &begun_by_nobody);
    for (email, way) in ways_once(&server) {
        let expected: &[&str] =
            if email.ends_with("@old.example") { &["a", "b", "c"] } else { &["x", "a", "y", "b", "c"] };
        assert_eq!(way, expected, "{email}");
    }
    assert_histories_are_true(&app, &server, &id);
    assert_histories_are_true(&app, &server, &begun_by_nobody);
    // Completed by all that there was; more steps behind do not make anything of it undone.
    restart_with(&mut app, &chain(&server, &steps(&["x", "a", "y", "b", "c", "d"])));
    assert_eq!(upgrade(&app, &id).0, 200);
    assert_histories_are_true(&app, &server, &id);
    assert_eq!(app.batch(&id)["status"], "completed");
}

#[test]
fn rows_that_failed_before_anything_left_begin_at_the_front() {
    let server = Server::start(created);
    let a = |path: &str| post("a", "api", "").replace("path = \"/a\"", &format!("path = \"{path}\""));
    let mut app = configured(&chain(&server, &[a("/a/{{ row.note }}")]));
    let csv = format!("email,note\np1@old.example,{}\np2@old.example,short\n", "n".repeat(100_000));
    let id = upload(&app, &app.key, "chain", &csv);
    ended(&app, &app.key, &id);
    let codes = ends(&app, &id);
    assert_eq!((codes["p1@old.example"].as_str(), codes["p2@old.example"].as_str()), ("template", "completed"));

    restart_with(&mut app, &chain(&server, &[post("x", "api", ""), a("/a")]));
    assert_eq!(upgrade(&app, &id).0, 200);
    assert_eq!(app.get(OPERATOR, &format!("/v2/batches/{id}/errors")).1["groups"][0]["step"], "a");
    assert_eq!(retry(&app, &id, "?step=a")["rows"], 1);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 2);
    let ways = ways_once(&server);
    assert_eq!(
        (&ways["p1@old.example"][..], &ways["p2@old.example"][..]),
        (&["x".into(), "a".into()][..], &["a/short".into()][..])
    );
}

/// A step that rows have behind them is not called for them, so what it would save is not there for the rest.
#[test]
fn what_later_steps_need_of_one_that_is_not_called_any_more_hinders_too() {
    let (server, mended) = broken_at_b();
    let b = |note: &str| format!("{}headers = {{ X-Note = \"{note}\" }}\n", post("b", "api", ""));
    let saving = |name: &str| post(name, "api", &format!("save = {{ of_{name} = \"/id\" }}"));
    let mut app = configured(&chain(&server, &[saving("a"), post("b", "api", "")]));
    let id = upload(&app, &app.key, "chain", &people("old.example", 2));
    all_at_b(&app, &server, &id, 2);
    act(&app, &id, "pause");
    app.until("nothing is under way", || (app.batch(&id)["counts"]["processing"] == 0).then_some(()));
    let with = |note: &str| chain(&server, &[saving("a"), saving("y"), b(note), post("c", "api", "")]);
    restart_with(&mut app, &with("{{ saved.of_a }}{{ saved.of_y }}"));
    assert_keeps(&app, &id, "has come to `b`, and `b` needs `saved.of_y` by now");
    restart_with(
        &mut app,
        &chain(
            &server,
            &[post("a", "api", ""), post("b", "api", ""), saving("c"), {
                format!(
                    "{}headers = {{ X-Note = \"{{{{ saved.of_a }}}}{{{{ saved.of_c }}}}\" }}\n",
                    post("d", "api", "")
                )
            }],
        ),
    );
    assert_eq!(upgrade(&app, &id).0, 200, "`a` saved it when it was called, and `c` is called");
    mended.store(true, SeqCst);
    act(&app, &id, "resume");
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 2);
    assert_histories_are_true(&app, &server, &id);
    // Nothing is left to be done for these.
    restart_with(
        &mut app,
        &chain(
            &server,
            &[post("a", "api", ""), post("b", "api", ""), post("c", "api", ""), saving("y"), {
                format!("{}headers = {{ X-Note = \"{{{{ saved.of_y }}}}\" }}\n", post("d", "api", ""))
            }],
        ),
    );
    assert_eq!(upgrade(&app, &id).0, 200);
}

/// One transaction would hold up everybody: then only what needs none is possible.
#[test]
fn more_rows_than_one_transaction_should_move_stay_where_they_are() {
    const ROWS: usize = 50_001;
    let server = Server::start(created);
    let mut app = configured(&chain(&server, &steps(&["a", "b"])));
    dispatch(&app, "pause");
    let id = upload(&app, &app.key, "chain", &people("old.example", ROWS));
    app.until_status(&id, "queued");
    app.terminate();
    // As if all of them had failed at `b`.
    let failed = format!(
        "UPDATE rows SET status = 'failed', step = 1, progress = X'00', error_code = 'rejected', error_status = 422,
                         error = X'00', finished_at = 1;
         UPDATE batches SET pending = 0, failed = total, next_row = total + 1;
         INSERT INTO failures (batch, step, code, http_status, failed, example_row)
         SELECT batch, 1, 'rejected', 422, {ROWS}, 1 FROM batches"
    );
    database(&app).execute_batch(&failed).expect("failed");
    edit(&app, &chain(&server, &steps(&["a", "y", "b"])));
    app.serve();
    assert_keeps(&app, &id, "more than 50000 rows were begun");
    restart_with(&mut app, &chain(&server, &steps(&["a", "b", "c"])));
    assert_eq!(upgrade(&app, &id).0, 200, "nothing has to be moved");
}

#[test]
fn what_left_and_would_be_another_request_now_is_for_a_person_to_decide() {
    let (server, mended) = broken_at_b();
    let b = |note: &str| format!("{}headers = {{ X-Note = \"{note}\" }}\n", post("b", "api", ""));
    let with_b = |note: &str| chain(&server, &[post("a", "api", ""), b(note)]);
    let mut app = configured(&with_b("of old"));
    let id = upload(&app, &app.key, "chain", &of(["p1@old.example", "refused@old.example"]));
    all_at_b(&app, &server, &id, 2);
    restart_with(&mut app, &with_b("edited"));
    act(&app, &id, "pause");
    app.until("nothing is under way", || (upgrade(&app, &id).0 == 200).then_some(()));
    mended.store(true, SeqCst);
    act(&app, &id, "resume");
    ended(&app, &app.key, &id);
    // 500 leaves open whether it was done; 422 does not.
    assert_eq!(retry(&app, &id, "?step=b")["rows"], 1);
    ended(&app, &app.key, &id);
    let codes = ends(&app, &id);
    assert_eq!(
        (codes["p1@old.example"].as_str(), codes["refused@old.example"].as_str()),
        ("outcome_unknown", "completed")
    );
    let of_p1 = server.received().into_iter().filter(|request| who(request) == "p1" && request.path() == "/b");
    assert!(of_p1.clone().count() > 0);
    assert!(of_p1.into_iter().all(|request| request.header("x-note") == "of old"), "nothing else left");
}

#[test]
fn refusals_say_what_hinders() {
    let server = Server::start(|request| match (request.path(), who(request).as_str()) {
        ("/b", "refused") => status(422),
        _ => late(Duration::from_millis(200), created(request)),
    });
    let old = chain(&server, &steps(&["a", "b"]));
    let mut app = configured(&old);
    let id = upload(&app, &app.key, "chain", &of(["p1@old.example", "refused@old.example"]));
    ended(&app, &app.key, &id);
    let unbegun = {
        dispatch(&app, "pause");
        let id = upload(&app, &app.key, "chain", &people("more.example", 50));
        app.until_status(&id, "queued");
        id
    };

    for (present, why) in [
        (&["b", "a"][..], "row 2 has come to `b`"),
        (&["a", "c"][..], "row 2 has come to `b`"),
        (&["c"][..], "row 2 has come to `b`"),
    ] {
        restart_with(&mut app, &chain(&server, &steps(present)));
        assert_keeps(&app, &id, why);
        let output = app.command(&["batch", "upgrade", &id]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    assert!(audited(&app, &id).is_empty());
    // What is completed was done by all of the steps.
    let (_, said) = app.post(OPERATOR, &format!("/v2/batches/{id}/retry?step=b"));
    assert_eq!(said["retried"]["rows"], 1, "{said}");

    // While rows are under way, nothing is moved.
    restart_with(&mut app, &chain(&server, &steps(&["x", "a", "b"])));
    dispatch(&app, "resume");
    app.until("rows are under way", || (app.batch(&unbegun)["counts"]["processing"] != 0).then_some(()));
    let (status, said) = upgrade(&app, &unbegun);
    assert_eq!(status, 409, "{said}");
    assert!(said["detail"].as_str().is_some_and(|it| it.contains("of its rows are under way: pause it")), "{said}");
    act(&app, &unbegun, "pause");
    app.until("they have ended", || (upgrade(&app, &unbegun).0 == 200).then_some(()));
    act(&app, &unbegun, "resume");
    assert_eq!(ended(&app, &app.key, &unbegun)["counts"]["completed"], 50);
    assert_histories_are_true(&app, &server, &unbegun);
    for (email, way) in ways_once(&server).into_iter().filter(|(email, _)| email.ends_with("@more.example")) {
        assert!(way == ["a", "b"] || way == ["x", "a", "b"], "{email}: {way:?}");
    }

    // A required column that the file does not have.
    let column = format!("{old}\n[[workflows.chain.columns]]\nname = \"phone\"\nrequired = true\n");
    restart_with(&mut app, &column);
    assert_keeps(&app, &unbegun, "no column `phone`");
    let cancelled = upload(&app, &app.key, "chain", "email,phone\np1@other.example,1\n");
    act(&app, &cancelled, "cancel");
    app.until_status(&cancelled, "cancelled");
    restart_with(&mut app, &old);
    assert_keeps(&app, &cancelled, "it is cancelled");
    assert_eq!(upgrade(&app, "bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X").0, 404);
    assert_eq!(app.post(&app.key, &format!("/v2/batches/{unbegun}/upgrade")).0, 403);
    assert_eq!(app.post("nobody", &format!("/v2/batches/{unbegun}/upgrade")).0, 401);
}
