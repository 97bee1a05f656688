//! An edit of the configuration in the midst of a batch: what was accepted under the old one is worked by that, and what may
//! have been carried out is never sent as something else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::{
    support::{
        app::{App, OPERATOR},
        server::{Reply, Server},
    },
    zoo::{QUICK, api, app, assert_one_key_each, counts, created, ended, ends, people, upload},
};

/// Changes the text that every request has in it.
fn edit(app: &App, from: &str, to: &str) {
    let path = app.folder.path().join("dripfeed.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    assert!(config.contains(from), "what is edited is there");
    std::fs::write(&path, config.replace(from, to)).expect("written");
}

#[test]
fn an_edited_template_never_sends_what_may_be_done_under_another_key() {
    for upgraded in [false, true] {
        let mended = Arc::new(AtomicBool::new(false));
        let heals = mended.clone();
        let server = Server::start(move |request| match heals.load(SeqCst) {
            false => Reply::Silence,
            true => created(request),
        });
        let step = "headers = { X-Note = \"first\" }\nsave = { id = \"/id\" }";
        let mut app = app(&[api("one", &server, QUICK, "max_attempts = 9", step)]);
        let id = upload(&app, &app.key, "one", &people("edited.example", 3));
        app.until("each was sent", || (counts(&server).len() == 3).then_some(()));
        assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{id}/pause")).0, 200);
        app.until("nothing is under way", || (app.batch(&id)["counts"]["processing"] == 0).then_some(()));
        app.terminate();
        edit(&app, "X-Note = \"first\"", "X-Note = \"second\"");
        mended.store(true, SeqCst);
        app.serve();
        if upgraded {
            let (status, said) = app.post(OPERATOR, &format!("/v2/batches/{id}/upgrade"));
            assert_eq!(status, 200, "{said}");
        }
        assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{id}/resume")).0, 200);
        ended(&app, &app.key, &id);
        assert_one_key_each(&server);
        assert!(server.received().iter().all(|request| request.header("x-note") == "first"), "upgraded: {upgraded}");
        let expected = if upgraded { "outcome_unknown" } else { "completed" };
        assert!(ends(&app, &id).values().all(|end| end == expected), "upgraded: {upgraded}, {:?}", ends(&app, &id));
    }
}

#[test]
fn what_a_dead_server_sent_under_a_key_that_it_could_not_write_down_is_unknown_after_an_upgrade() {
    for upgraded in [false, true] {
        let mended = Arc::new(AtomicBool::new(false));
        let heals = mended.clone();
        let server = Server::start(move |request| match heals.load(SeqCst) {
            false => Reply::Silence,
            true => created(request),
        });
        let step = "headers = { X-Note = \"first\" }\nsave = { id = \"/id\" }";
        let mut app = app(&[api("one", &server, "rate_per_second = 100\ntimeout = \"30s\"", "", step)]);
        let id = upload(&app, &app.key, "one", &people("dead.example", 3));
        app.until("each was sent", || (counts(&server).len() == 3).then_some(()));
        app.kill();
        edit(&app, "X-Note = \"first\"", "X-Note = \"second\"");
        assert!(app.command(&["batch", "pause", &id]).status.success());
        mended.store(true, SeqCst);
        app.serve();
        if upgraded {
            let (status, said) = app.post(OPERATOR, &format!("/v2/batches/{id}/upgrade"));
            assert_eq!(status, 200, "{said}");
        }
        assert_eq!(app.post(OPERATOR, &format!("/v2/batches/{id}/resume")).0, 200);
        ended(&app, &app.key, &id);
        assert_one_key_each(&server);
        let expected = if upgraded { "outcome_unknown" } else { "completed" };
        assert!(ends(&app, &id).values().all(|end| end == expected), "upgraded: {upgraded}, {:?}", ends(&app, &id));
    }
}
