//! What depends on how the server is set up: its own alerts, missing calls, backups, limits, workflows that come and go.

use super::{
    dispatch,
    format::Scrape,
    idle, scrape,
    support::app::{App, Setup, people},
};

/// A workflow besides the built-in one.
const CARDS: &str = r#"
[workflows.cards]
upload_path = "/v2/client/cards"
on_invalid_row = "skip"
[[workflows.cards.columns]]
name = "number"
type = "regex"
pattern = "[A-Z]{2}\\d{6}"
required = true
[[workflows.cards.steps]]
name = "order"
dependency = "invites"
method = "POST"
path = "/invites"
json = { email = "{{ row.number }}@mail.example", address_id = "{{ row.number }}" }
save = { check_id = "/check_id" }
"#;

fn upload_cards(app: &App, file: &str) {
    let path = "/v2/client/cards";
    let (status, batch) = app.upload_as(&app.key, path, &[("Content-Type", "text/csv")], file.as_bytes());
    assert_eq!(status, 202, "{batch}");
    app.until_status(batch["id"].as_str().expect("an id"), "queued");
}

#[test]
fn workflows_are_told_apart_and_one_that_is_removed_loses_its_name_but_not_its_rows() {
    let mut app = App::start(Setup { more: CARDS.to_owned(), ..idle() });
    upload_cards(&app, "number\nAB123456\nnonsense\nCD654321\n");
    let id = app.accepted(people(5));
    app.until_status(&id, "queued");
    let pending =
        |scrape: &Scrape, workflow| scrape.value("dripfeed_rows", &[("workflow", workflow), ("status", "pending")]);
    let both = scrape(&app);
    assert_eq!((pending(&both, "cards"), pending(&both, "invite")), (2.0, 5.0));
    let cards = [("workflow", "cards")];
    assert_eq!(both.value("dripfeed_upload_rows_total", &cards), 2.0);
    assert_eq!(both.value("dripfeed_upload_skipped_rows_total", &cards), 1.0);
    assert_eq!(both.value("dripfeed_upload_skipped_rows_total", &[("workflow", "invite")]), 0.0);
    dispatch(&app);
    let done = app.until("the cards are done", || {
        let scrape = scrape(&app);
        (scrape.value("dripfeed_rows_completed_total", &cards) == 2.0).then_some(scrape)
    });
    assert!(done.value("dripfeed_rows_completed_total", &[("workflow", "invite")]) <= 5.0);

    upload_cards(&app, "number\nEF123456\nGH654321\n");
    assert_eq!(app.terminate(), Some(0));
    let path = app.folder.path().join("dripfeed.toml");
    let config = std::fs::read_to_string(&path).expect("the configuration");
    assert!(config.contains(CARDS));
    std::fs::write(&path, config.replace(CARDS, "")).expect("written");
    app.serve();
    let one = scrape(&app);
    assert_eq!((pending(&one, "(removed)"), pending(&one, "invite")), (2.0, 0.0));
    assert!(!one.samples.keys().any(|(_, labels)| labels.values().any(|value| value == "cards")));
}

#[test]
fn calls_that_do_not_come_are_told_and_so_is_who_stands_in() {
    let app = App::start(Setup {
        dispatch: "expect_every = \"300ms\"\nmin_interval = \"0s\"\ntake_over = true".into(),
        ..idle()
    });
    let told = |scrape: &Scrape| {
        ["calls_missing", "taken_over"].map(|name| scrape.value(&format!("dripfeed_dispatch_{name}"), &[]))
    };
    // A scrape reads the database first, and who stands in after that.
    let last_run = |scrape: &Scrape| scrape.value("dripfeed_dispatch_last_run_timestamp_seconds", &[]);
    let missing = app.until("the clock stands in and its run is told", || {
        Some(scrape(&app)).filter(|scrape| told(scrape) == [1.0, 1.0] && last_run(scrape) > 0.0)
    });
    assert_eq!(missing.value("dripfeed_dispatch_expected_interval_seconds", &[]), 0.3);
    app.until("calls come again", || {
        dispatch(&app);
        Some(scrape(&app)).filter(|scrape| told(scrape) == [0.0, 0.0])
    });
}

#[test]
fn alerts_of_the_server_backups_by_schedule_and_limits_are_told() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let to = elsewhere.path().join("backups");
    let more = format!(
        "[alerts]\ncheck_every = \"100ms\"\n[backup]\nevery = \"1s\"\nto = \"{}\"\n[database]\nwal_limit = \"32MiB\"",
        to.display()
    );
    let app = App::start(Setup { more, dispatch: Setup::default().dispatch, ..idle() });
    let firing = |scrape: &Scrape, kind| scrape.value("dripfeed_alerts_firing", &[("kind", kind)]);
    assert_eq!(firing(&scrape(&app), "batch_paused"), 0.0);
    let id = app.accepted(people(200).replace("mail.example", "rejected.example"));
    let told = app.until("the alert fires", || Some(scrape(&app)).filter(|it| firing(it, "batch_paused") == 1.0));
    assert_eq!(told.value("dripfeed_batches_auto_paused_total", &[]), 1.0);
    assert_eq!((firing(&told, "gate_closed"), firing(&told, "rows_stuck")), (0.0, 0.0));
    assert!(app.batch(&id)["paused"].as_bool().is_some_and(|paused| paused));

    let backups = |scrape: &Scrape, outcome| scrape.value("dripfeed_backups_total", &[("outcome", outcome)]);
    let taken = app.until("a backup is taken", || Some(scrape(&app)).filter(|it| backups(it, "taken") >= 1.0));
    assert!(taken.value("dripfeed_last_backup_timestamp_seconds", &[]) > 0.0);
    assert_eq!(taken.value("dripfeed_backup_expected_interval_seconds", &[]), 1.0);
    assert_eq!(backups(&taken, "failed"), 0.0);
    assert_eq!(taken.value("dripfeed_wal_limit_bytes", &[]), 33_554_432.0);
    let reserve = taken.value("dripfeed_disk_reserve_bytes", &[]);
    let disk = taken.value("dripfeed_disk_size_bytes", &[]);
    assert_eq!(reserve, (disk / 20.0).floor().min(1_073_741_824.0));
}
