//! How hooks are told: until they take it, in order, and nobody else.

use serde_json::json;

use crate::{
    Receiver, configure, database, fail, firing, logged, resolved, said,
    support::{
        app::{App, people},
        server::{Reply, Server, closed_port},
    },
    watched,
};

#[test]
fn a_receiver_that_was_away_hears_of_everything_in_order_once_it_is_back() {
    let (away, there) = (Receiver::start(), Receiver::start());
    away.set_down(true);
    let hooks = away.hook("away", "json") + &there.hook("there", "json");
    let mut app = App::start(watched("", &hooks));
    let ids: Vec<String> = (1..=2).map(|rows| app.accepted(people(rows))).collect();
    ids.iter().for_each(|id| drop(app.until_status(id, "queued")));
    fail(&app, &ids[0]);
    there.until(&app, "extraction_failed", 1);
    app.until("the other one refuses", || (!away.messages().is_empty()).then_some(()));
    app.until("the refusal is told", || logged(&app, "hook.refused").pop());
    assert_eq!(logged(&app, "hook.refused").len(), 1);
    fail(&app, &ids[1]);
    there.until(&app, "extraction_failed", 2);
    database(&app).execute("UPDATE batches SET finished_at = 1000 WHERE id = ?", [&ids[0]]).expect("long ago");
    there.until(&app, "extraction_failed", 3);
    // Whoever dies between an answer and the note of it tells the same again, with the same id.
    let noted = "SELECT count(*) FROM alerts_told WHERE hook = 'there' AND state = 'resolved'";
    let noted = || database(&app).query_row(noted, [], |row| row.get::<_, i64>(0)).expect("a count");
    app.until("what it was told is noted", || (noted() == 1).then_some(()));
    app.kill();
    let refused = away.messages().len();
    assert!(away.told("extraction_failed").iter().all(|told| *told == firing(&ids[0])), "one after the other");
    away.set_down(false);
    app.serve();
    let expected = [firing(&ids[0]), firing(&ids[1]), resolved(&ids[0])];
    app.until("it hears of all", || (away.messages().len() >= refused + 3).then_some(()));
    assert_eq!(away.told("extraction_failed")[refused..], expected);
    assert_eq!(there.told("extraction_failed"), expected, "whoever was told is not told again");
    let ids_of = |receiver: &Receiver, skipped: usize| {
        receiver.messages()[skipped..].iter().map(|message| message["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids_of(&away, refused), ids_of(&there, 0));
}

#[test]
fn a_hook_that_is_new_hears_of_what_is_wrong_now() {
    let mut app = App::start(watched("", ""));
    let (first, over) = (app.accepted(people(1)), app.accepted(people(2)));
    app.until_status(&first, "queued");
    app.until_status(&over, "queued");
    fail(&app, &first);
    app.until("nobody but the log is told", || logged(&app, "alert.fired").pop());
    app.terminate();
    let receiver = Receiver::start();
    configure(
        &app,
        "disk_free_below = \"0B\"\n",
        &format!("disk_free_below = \"0B\"\n{}", receiver.hook("new", "json")),
    );
    app.serve();
    receiver.until(&app, "extraction_failed", 1);
    assert_eq!(receiver.told("extraction_failed"), [firing(&first)]);
}

#[test]
fn a_redirect_is_not_followed_and_a_hook_that_hangs_holds_nobody_up() {
    let elsewhere = Receiver::start();
    let target = elsewhere.server.url();
    let redirecting = Server::start(move |_| Reply::Answer(307, vec![("Location", target.clone())], String::new()));
    let hanging = Server::start(|_| Reply::Silence);
    let there = Receiver::start();
    let url = |server: &Server, name: &str| format!("[alerts.hooks.{name}]\nurl = \"{}/hush\"\n", server.url());
    let hooks = url(&redirecting, "astray") + &url(&hanging, "hanging") + &there.hook("there", "json");
    let app = App::start(watched("", &hooks));
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    fail(&app, &id);
    there.until(&app, "extraction_failed", 1);
    app.until("the redirect was answered twice", || (redirecting.received().len() >= 2).then_some(()));
    assert_eq!(elsewhere.server.connections(), 0);
    app.until("the hook hangs", || (hanging.connections() > 0).then_some(()));
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    fail(&app, &id);
    there.until(&app, "extraction_failed", 2);
    let told = logged(&app, "hook.refused");
    assert!(told.iter().any(|line| line["trouble"] == "the receiver answered 307"), "{told:?}");
    assert!(!app.log().contains("hush"), "{}", app.log());
}

#[test]
fn a_hook_can_be_tried_and_its_address_is_never_shown() {
    let (json, slack) = (Receiver::start(), Receiver::start());
    let hooks = json.hook("pager", "json") + &slack.hook("ops", "slack");
    let app = App::start(watched("", &hooks));
    let tried = app.command(&["alerts", "test"]);
    assert!(tried.status.success(), "{}", said(&tried));
    assert_eq!(said(&tried), "ops: taken (200)\npager: taken (200)\n");
    let message = json.messages().pop().expect("a message");
    assert_eq!(
        (&message["alert"], &message["appliance"], &message["what_to_do"]),
        (&json!("test"), &json!("eu-1"), &json!([]))
    );
    assert!(slack.messages()[0]["text"].as_str().expect("a text").contains("nothing is wrong"));
    assert!(app.command(&["alerts", "test", "ops"]).status.success());
    assert_eq!((json.messages().len(), slack.messages().len()), (1, 2));
    assert_eq!(app.command(&["alerts", "test", "nobody"]).status.code(), Some(2));
    json.set_down(true);
    let tried = app.command(&["alerts", "test"]);
    assert!(tried.status.code() == Some(1) && said(&tried).contains("pager: not taken: the receiver answered 503"));
    let (config, doctor) = (said(&app.command(&["config"])), said(&app.command(&["doctor"])));
    assert!(config.contains("[alerts.hooks.pager]") && !config.contains("hush"), "{config}");
    assert!(doctor.contains("pager takes connections") && !doctor.contains("hush"), "{doctor}");

    let nowhere = App::start(watched("", &format!("[alerts.hooks.gone]\nurl = \"http://{}/hush\"\n", closed_port())));
    let tried = said(&nowhere.command(&["alerts", "test"]));
    assert!(tried.contains("gone: not taken: the connection failed") && !tried.contains("hush"), "{tried}");
    let unset = App::start(watched("", ""));
    let tried = unset.command(&["alerts", "test"]);
    assert!(tried.status.code() == Some(2) && said(&tried).contains("there is no hook"), "{}", said(&tried));
    assert_eq!(said(&unset.command(&["alerts", "list"])), "no alert fires\n");
}

#[test]
fn faults_of_the_section_are_told_and_show_no_address() {
    let wrong = "[alerts]\ncheck_every = \"0s\"\nname = \"two words\"\n[alerts.hooks.a]\nurl = \"ftp://hush/\"\nformat = \"teams\"\n\
                 [alerts.hooks.b]\n[alerts.hooks.\"c d\"]\nurl = \"https://x/\"\n";
    let mut app = App::prepared(watched("", ""));
    let path = app.folder.path().join("dripfeed.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let from = text.find("[alerts]").expect("the section");
    std::fs::write(&path, text[..from].to_owned() + wrong).expect("written");
    app.launch(&[]);
    assert!(!app.listens());
    let log = app.complaints();
    for fault in [
        "alerts.check_every: is longer than 0s",
        "alerts.name: is 1 to 64",
        "alerts.hooks.a.url: is a URL",
        "alerts.hooks.a.format: is one of \"slack\" and \"json\"",
        "alerts.hooks.b.url: is missing",
        "alerts.hooks.c d.name: is 1 to 64",
    ] {
        assert!(log.contains(fault), "{fault} in {log}");
    }
    assert!(!log.contains("hush"), "{log}");
}
