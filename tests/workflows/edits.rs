//! An edit changes what later uploads do, and nothing of what was accepted before.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::json;

use crate::{
    all_at_b, assert_histories_are_true, broken_at_b, chain, configured, edit, histories, restart_with, steps,
    support::{app::OPERATOR, server::Server},
    versions, ways_once,
    zoo::{QUICK, created, database, dependency, email, ended, of, people, post, retry, upload},
};

const ROWS: usize = 8;

#[test]
fn steps_put_in_front_or_taken_out_skip_no_call_and_make_none_twice() {
    let (server, mended) = broken_at_b();
    let mut app = configured(&chain(&server, &steps(&["a", "b", "c"])));
    let waiting = (1..ROWS).map(|row| format!("p{row}@old.example"));
    let id = upload(&app, &app.key, "chain", &of(waiting.chain(["refused@old.example".to_owned()])));
    all_at_b(&app, &server, &id, ROWS);

    // `a` is taken out, `x` put in front, and `c` moved: as a count of steps done, 1 means another step now.
    restart_with(&mut app, &chain(&server, &steps(&["x", "c", "b"])));
    let failed = app.get(OPERATOR, &format!("/v2/batches/{id}/errors")).1;
    assert_eq!(
        (&failed["groups"][0]["step"], &failed["groups"][0]["http_status"]),
        (&json!("b"), &json!(422)),
        "{failed}"
    );
    mended.store(true, SeqCst);
    ended(&app, &app.key, &id);
    assert_eq!(retry(&app, &id, "?step=b")["rows"], 1);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], ROWS);
    let new = upload(&app, &app.key, "chain", &people("new.example", ROWS));
    ended(&app, &app.key, &new);

    for (email, way) in ways_once(&server) {
        let expected = if email.ends_with("@old.example") { ["a", "b", "c"] } else { ["x", "c", "b"] };
        assert_eq!(way, expected, "{email}");
    }
    assert_histories_are_true(&app, &server, &id);
    assert_histories_are_true(&app, &server, &new);

    // What nobody needs any more goes with the last batch that did.
    assert_eq!(versions(&app), 2);
    assert_eq!(app.delete(OPERATOR, &format!("/v2/batches/{id}")).0, 200);
    assert_eq!(versions(&app), 1);
    restart_with(&mut app, &chain(&server, &steps(&["a"])));
    assert_eq!(versions(&app), 2, "the new one, and that of the batch that is left");
}

#[test]
fn an_edited_template_changes_nothing_of_what_was_accepted() {
    let (server, mended) = broken_at_b();
    let b = |note: &str| format!("{}headers = {{ X-Note = \"{note}\" }}\n", post("b", "api", ""));
    let with_b = |note: &str| chain(&server, &[post("a", "api", ""), b(note)]);
    let mut app = configured(&with_b("of old"));
    let id = upload(&app, &app.key, "chain", &people("old.example", ROWS));
    all_at_b(&app, &server, &id, ROWS);
    // Killed, so that also what was under way is done by what was accepted.
    app.kill();
    edit(&app, &with_b("edited"));
    app.serve();
    mended.store(true, SeqCst);
    ended(&app, &app.key, &id);
    let new = upload(&app, &app.key, "chain", &people("new.example", ROWS));
    ended(&app, &app.key, &new);

    for request in server.received().iter().filter(|request| request.path() == "/b") {
        let expected = if email(request).ends_with("@old.example") { "of old" } else { "edited" };
        assert_eq!(request.header("x-note"), expected, "{}", email(request));
    }
    assert_histories_are_true(&app, &server, &id);
}

#[test]
fn a_workflow_that_is_taken_out_is_worked_to_its_end() {
    let (server, mended) = broken_at_b();
    let mut app = configured(&chain(&server, &steps(&["a", "b"])));
    let id = upload(&app, &app.key, "chain", &of(["p1@old.example", "refused@old.example"]));
    all_at_b(&app, &server, &id, 2);
    restart_with(&mut app, &dependency("api", server.address, QUICK));
    mended.store(true, SeqCst);
    ended(&app, &app.key, &id);
    assert_eq!(retry(&app, &id, "")["rows"], 1);
    assert_eq!(ended(&app, &app.key, &id)["counts"]["completed"], 2);
    assert!(ways_once(&server).values().all(|way| way == &["a", "b"]), "{:?}", ways_once(&server));
    assert_histories_are_true(&app, &server, &id);
    crate::assert_keeps(&app, &id, "`chain` is not configured any more");
}

#[test]
fn what_a_workflow_holds_of_secrets_is_on_disk_only_sealed_and_a_restored_batch_has_it_too() {
    let (server, mended) = broken_at_b();
    let secret = "s3cr3t-of-the-header";
    let b = format!("{}headers = {{ X-Account = \"{secret}\" }}\n", post("b", "api", ""));
    let mut app = configured(&chain(&server, &[post("a", "api", ""), b]));
    let id = upload(&app, &app.key, "chain", &people("old.example", ROWS));
    all_at_b(&app, &server, &id, ROWS);
    let backup = app.folder.path().join("backup");
    assert!(app.command(&["backup", backup.to_str().expect("a path")]).status.success());
    app.terminate();
    for file in crate::support::app::files(app.folder.path()) {
        let is_configuration = file.extension().is_some_and(|extension| extension == "toml");
        let bytes = std::fs::read(&file).expect("a file");
        let holds = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert_eq!(holds, is_configuration, "{}", file.display());
    }

    // Restored under a configuration that has another workflow of that name.
    std::fs::remove_dir_all(app.data_dir()).expect("lost");
    edit(&app, &chain(&server, &steps(&["x"])));
    let restored = app.command(&["restore", backup.to_str().expect("a path"), "--keep-revived", "--json"]);
    assert!(restored.status.success(), "{restored:?}");
    let restored: serde_json::Value = serde_json::from_slice(&restored.stdout).expect("JSON");
    let at_risk = &restored["may_have_been_called"][0];
    assert_eq!(at_risk["next_steps"], json!([{ "step": "b", "rows": ROWS }]), "{restored}");
    app.serve();
    mended.store(true, SeqCst);
    crate::zoo::dispatch(&app, "resume");
    ended(&app, &app.key, &id);
    let of_b: Vec<_> = server.received().into_iter().filter(|request| request.path() == "/b").collect();
    assert!(of_b.iter().all(|request| request.header("x-account") == secret));
    assert!(ways_once(&server).values().all(|way| way == &["a", "b"]), "{:?}", ways_once(&server));
    assert!(histories(&app, &id).values().all(|steps| steps.len() == 2));
    let sealed = database(&app).query_row(
        "SELECT count(*) FROM workflow_versions WHERE instr(outline, ?1) OR instr(sealed, ?1)",
        [secret],
        |row| row.get::<_, i64>(0),
    );
    assert_eq!(sealed, Ok(0));
}

/// Editing back and forth makes no versions without end, and each batch has its own.
#[test]
fn edits_back_and_forth_under_load_keep_each_batch_on_its_way() {
    let server =
        Server::start(|request| crate::support::server::late(std::time::Duration::from_millis(50), created(request)));
    // Put in front and behind, taken out, renamed, changed about.
    let kinds: [&[&str]; 5] = [&["a", "b"], &["x", "a", "b", "y"], &["b"], &["b2"], &["b", "a"]];
    let mut app = configured(&chain(&server, &steps(kinds[0])));
    let mut batches = Vec::new();
    for round in 0..7 {
        let kind = kinds[round % kinds.len()];
        // Alternately in order and as a power cut would end it.
        if round % 2 == 0 {
            restart_with(&mut app, &chain(&server, &steps(kind)));
        } else {
            app.kill();
            edit(&app, &chain(&server, &steps(kind)));
            app.serve();
        }
        batches.push((upload(&app, &app.key, "chain", &people(&format!("r{round}.example"), 40)), kind));
        app.until("some of it is worked", || {
            (app.batch(&batches[round].0)["counts"]["completed"].as_u64() > Some(3)).then_some(())
        });
    }
    for (id, _) in &batches {
        assert_eq!(ended(&app, &app.key, id)["counts"]["completed"], 40);
    }
    assert_eq!(versions(&app), kinds.len() as i64);
    for (email, way) in ways_once(&server) {
        let round: usize = email.split(['r', '.']).nth_back(1).and_then(|it| it.parse().ok()).expect("a round");
        assert_eq!(way, batches[round].1, "{email}");
    }
}
