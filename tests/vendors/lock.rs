//! Outcomes that wait for a database which is locked for longer than a claim lasts are neither lost nor made again.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    support::{
        app::App,
        server::{Server, late},
    },
    zoo::{api, counts, created, database, ended, keys, pass, people, setup, upload},
};

/// What a locked database is tried with.
struct Lock {
    auto_rescue: bool,
    by_command: bool,
}

#[test]
fn outcomes_that_wait_for_a_locked_database_are_kept_and_nothing_is_called_again() {
    let locks = [(true, false), (false, false), (false, true)];
    std::thread::scope(|scope| {
        for (auto_rescue, by_command) in locks {
            scope.spawn(move || outlives_the_lock(Lock { auto_rescue, by_command }));
        }
    });
}

fn outlives_the_lock(lock: Lock) {
    let server = Server::start(|request| late(Duration::from_millis(300), created(request)));
    let dependency = "rate_per_second = 50\nburst = 5\ntimeout = \"1s\"\ngate_after = 100000";
    let more = api("one", &server, dependency, "", "save = { id = \"/id\" }");
    let mut setup = setup(&[more, "[database]\nbusy_timeout = \"500ms\"\n".to_owned()]);
    setup.workers = format!("claim_ttl = \"2s\"\nauto_rescue = {}", lock.auto_rescue);
    let app = App::start(setup);
    let id = upload(&app, &app.key, "one", &people("locked.example", 100));
    app.until("some are done", || (server.calls() >= 30).then_some(()));
    let elsewhere = database(&app);
    elsewhere.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    pass(Duration::from_secs(6));
    let stuck = lock.by_command.then(|| app.spawn(&["stuck", "--apply"]));
    elsewhere.execute_batch("ROLLBACK").expect("let go");
    if let Some(command) = stuck {
        assert!(command.wait_with_output().expect("ended").status.code().is_some());
    }
    let done = ended(&app, &app.key, &id);
    assert_eq!(done["counts"]["completed"], 100, "{done}");
    let twice: BTreeMap<_, _> = counts(&server).into_iter().filter(|(_, calls)| *calls > 1).collect();
    assert!(twice.is_empty(), "rescued by itself {}: called again: {twice:?}", lock.auto_rescue);
    assert_eq!(keys(&server).len(), 100);
}
