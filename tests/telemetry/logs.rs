//! The form of the log: one JSON object a line on standard output, or text on a terminal; and what stands in it.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    app::{App, OPERATOR, Setup, people},
    server::{Server, ok, status},
};

/// The names of a batch's events, in order.
fn life(app: &App, id: &str) -> Vec<String> {
    let of_batch = app.events().into_iter().filter(|line| line["batch"] == *id);
    of_batch.map(|line| line["event"].as_str().expect("a name").to_owned()).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|line| line["event"] == name).collect()
}

#[test]
fn a_server_says_one_object_a_line_on_standard_output_and_nothing_else_anywhere() {
    let app = App::start(Setup::default());
    let (one, other) = (app.accepted(people(4)), app.accepted(people(3)));
    for id in [&one, &other] {
        app.until_status(id, "completed");
        app.until("its end is logged", || life(&app, id).contains(&"batch.completed".to_owned()).then_some(()));
        assert_eq!(life(&app, id), ["batch.accepted", "extraction.started", "batch.queued", "batch.completed"]);
    }
    app.signal(Signal::TERM);
    app.until("it has ended", || named(&app.events(), "server.ended").first().map(|_| ()));

    let events = app.events();
    for line in &events {
        for name in ["timestamp", "level", "event", "message", "target"] {
            assert!(line[name].as_str().is_some_and(|value| !value.is_empty()), "{name} in {line}");
        }
        let fields = line.as_object().expect("an object").values();
        assert!(fields.into_iter().all(|value| !value.is_object() && !value.is_array()), "all at the top: {line}");
        assert!(line["timestamp"].as_str().expect("a time").parse::<jiff::Timestamp>().is_ok(), "{line}");
    }
    assert_eq!(app.complaints(), "");

    let started = named(&events, "server.started")[0];
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(started["data_dir"], app.data_dir().display().to_string());
    let counts = |id: &str| {
        let ended = named(&events, "batch.completed").into_iter().find(|line| line["batch"] == *id).expect("an end");
        (ended["completed"].clone(), ended["failed"].clone())
    };
    assert_eq!((counts(&one), counts(&other)), ((4.into(), 0.into()), (3.into(), 0.into())));
    let accepted: Vec<_> = named(&events, "batch.accepted").iter().map(|line| line["client"].clone()).collect();
    assert_eq!(accepted, ["acme", "acme"], "who sends a request stands beside what it came to");
    let last: Vec<_> = events.iter().rev().take(2).rev().map(|line| line["event"].clone()).collect();
    assert_eq!(last, ["server.ending", "server.ended"]);
    assert!(named(&events, "row.completed").is_empty(), "rows are not told of unless somebody asks");
}

#[test]
fn a_request_has_the_id_that_its_caller_was_told_and_probes_are_silent() {
    let app = App::start(Setup::default());
    app.add_client("umbrella", None);
    let (status, problem) = app.upload(&app.key, "email,first_name\nx,\n");
    assert_eq!(status, 422);
    let (_, missing) = app.get(OPERATOR, "/v2/batches/bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X");
    let (_, ready) = app.get("", "/readyz");
    assert_eq!(ready["status"], "ok");

    let told = |problem: &Value| {
        let id = problem["request_id"].clone();
        app.until("it is logged", || {
            let events: Vec<_> = app.events().into_iter().filter(|line| line["request_id"] == id).collect();
            (!named(&events, "request.answered").is_empty()).then_some(events)
        })
    };
    let refused = told(&problem);
    let names: Vec<_> = refused.iter().map(|line| line["event"].as_str().expect("a name")).collect();
    assert_eq!(names, ["upload.refused", "request.answered"]);
    assert_eq!((&refused[0]["code"], &refused[0]["client"]), (&"missing_column".into(), &"acme".into()));
    assert_eq!((&refused[1]["code"], &refused[1]["status"]), (&"invalid_file".into(), &422.into()));
    let missed = told(&missing);
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert_eq!((&missed[0]["code"], &missed[0]["operator"]), (&"not_found".into(), &"root".into()));
    assert!(app.events().iter().all(|line| line["route"] != "/readyz"), "a probe is no news");
}

#[test]
fn what_people_do_and_what_becomes_of_it_is_told_with_who_and_to_what() {
    // Nothing is granted: the batches stay as they were put.
    let mut app = App::start(Setup { dispatch: "min_interval = \"0s\"".into(), ..Setup::default() });
    let (one, other) = (app.accepted(people(5)), app.accepted(people(2)));
    app.until_status(&one, "queued");
    app.until_status(&other, "queued");
    for (key, change) in [(&app.key[..], "pause"), (OPERATOR, "resume"), (&app.key[..], "cancel")] {
        assert_eq!(app.post(key, &format!("/v2/batches/{one}/{change}")).0, 200);
    }
    let agent = crate::support::app::agent();
    let deleted =
        agent.delete(app.url(&format!("/v2/batches/{one}"))).header("Authorization", format!("Bearer {OPERATOR}"));
    assert_eq!(deleted.call().expect("an answer").status(), 200);
    app.until("it is erased", || life(&app, &one).contains(&"batch.erased".to_owned()).then_some(()));
    let rest = life(&app, &one).split_off(3);
    let expected =
        ["batch.paused", "batch.resumed", "batch.cancelled", "batch.cancel_asked", "batch.deleted", "batch.erased"];
    assert_eq!(rest, expected);
    assert_eq!(life(&app, &other), ["batch.accepted", "extraction.started", "batch.queued"], "the other one stays");

    let (status, run) = app.post(OPERATOR, "/ops/v1/dispatch/pause");
    assert_eq!((status, run["paused"].is_object()), (200, true), "{run}");
    app.until("it is logged", || named(&app.events(), "dispatch.paused").first().map(|_| ()));
    app.until("it is noted", || {
        named(&app.events(), "audit.noted").iter().any(|line| line["action"] == "dispatch.pause").then_some(())
    });
    let events = app.events();
    let noted: Vec<_> = named(&events, "audit.noted").iter().map(|line| (&line["action"], &line["by"])).collect();
    let (root, acme) = (&Value::from("root"), &Value::from("client:acme"));
    assert_eq!(
        noted,
        [
            (&"batch.resume".into(), root),
            (&"batch.cancel".into(), acme),
            (&"batch.delete".into(), root),
            (&"dispatch.pause".into(), root)
        ],
        "what a client does to its own is noted where it has no way back"
    );
    assert_eq!(named(&events, "dispatch.paused")[0]["level"], "WARN");

    app.kill();
    app.serve();
    let again = app.until("a pause is told again at each start", || {
        named(&app.events(), "dispatch.still_paused").first().map(|line| line["by"].clone())
    });
    assert_eq!(again, "root");
}

#[test]
fn rows_and_calls_are_told_where_somebody_asks_and_a_command_leaves_its_output_alone() {
    let app = App::start(Setup {
        more: "[log]\nfilter = \"info,dripfeed::work=debug\"".into(),
        dispatch: "min_interval = \"0s\"".into(),
        ..Setup::default()
    });
    let id = app.accepted(people(3));
    app.until_status(&id, "queued");
    let ran = app.command(&["row", "run", &format!("{id}/2")]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("{id}/2 is completed\n"));
    let lines = String::from_utf8(ran.stderr).expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let of_row: Vec<_> = lines.iter().filter(|line| line["batch"] == id && line["row"] == 2).collect();
    let names: Vec<_> = of_row.iter().map(|line| (&line["event"], &line["step"])).collect();
    let call = Value::from("call.ended");
    let steps = ["address-links", "get-addresses", "invite-create"].map(Value::from);
    assert_eq!(names[..3], [(&call, &steps[0]), (&call, &steps[1]), (&call, &steps[2])]);
    assert_eq!(names[3].0, "row.completed");
    assert_eq!(
        (of_row.len(), &of_row[2]["http_status"], &of_row[2]["dependency"]),
        (4, &201.into(), &"invites".into())
    );
    let shown = app.command(&["batch", "show", &id, "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).expect("JSON")["id"], id);

    app.post(OPERATOR, "/ops/v1/dispatch");
    app.until_status(&id, "completed");
    app.until("it is logged", || life(&app, &id).contains(&"batch.completed".to_owned()).then_some(()));
    let events = app.events();
    let mut done: Vec<_> = named(&events, "row.completed").iter().map(|line| line["row"].as_u64()).collect();
    done.sort_unstable();
    assert_eq!(done, [Some(1), Some(3)]);
}

#[test]
fn an_api_that_refuses_everybody_costs_one_line_a_batch_and_not_one_a_row() {
    let refusing = Server::start(|_| status(403));
    let app = App::start(Setup { downstream: Some(refusing.address), ..Setup::default() });
    let id = app.accepted(people(300));
    app.until("it has paused itself", || life(&app, &id).contains(&"batch.paused_itself".to_owned()).then_some(()));
    assert_eq!(life(&app, &id).len(), 4, "{:?}", life(&app, &id));
    let events = app.events();
    let paused = named(&events, "batch.paused_itself")[0];
    assert_eq!(paused["level"], "WARN");
    assert!(paused["reason"].as_str().expect("a reason").contains("HTTP 403"), "{paused}");
}

#[test]
fn a_gate_that_closes_and_opens_is_told_with_its_dependency() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let busy = Server::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => crate::support::server::Reply::Answer(429, vec![("Retry-After", "1".into())], String::new()),
        _ => ok("{\"link\":\"l\",\"addresses\":[{\"id\":\"a\"}],\"check_id\":\"c\"}"),
    });
    let app = App::start(Setup { downstream: Some(busy.address), workers: "under_way = 8".into(), ..Setup::default() });
    let id = app.accepted(people(2));
    app.until_status(&id, "completed");
    let events = app.events();
    let (closed, opened) = (named(&events, "gate.closed"), named(&events, "gate.opened"));
    assert_eq!((closed.len(), opened.len()), (1, 1), "{events:?}");
    assert_eq!((&closed[0]["dependency"], &closed[0]["level"]), (&"addresses".into(), &"WARN".into()));
    assert_eq!((&opened[0]["dependency"], &opened[0]["level"]), (&"addresses".into(), &"INFO".into()));
}

#[test]
fn a_terminal_gets_text() {
    let app = App::prepared(Setup::default());
    // The one of util-linux runs a command on a terminal of its own, and copies that to its output.
    let (binary, folder) = (env!("CARGO_BIN_EXE_dripfeed"), app.folder.path().display());
    let serve = format!("echo process $$; exec {binary} --config {folder}/dripfeed.toml serve");
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &serve, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().expect("`script` of util-linux");
    let mut output = terminal.stdout.take().expect("piped");
    let (mut said, mut piece) = (String::new(), [0; 4096]);
    while !said.contains("server.started") {
        let read = output.read(&mut piece).expect("what it says");
        assert!(read > 0, "it ended: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    // To lose its terminal is a SIGHUP, which ends no server: it has to be told itself.
    let process = said.split_whitespace().skip_while(|word| *word != "process").nth(1).and_then(|id| id.parse().ok());
    let process = process.and_then(rustix::process::Pid::from_raw).expect("its id");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("told to end");
    output.read_to_string(&mut String::new()).expect("the rest");
    terminal.wait().expect("reaped");
    let line = said.lines().find(|line| line.contains("server.started")).expect("the line");
    assert!(line.contains("serving") && line.contains("INFO") && !line.contains('{'), "{line}");
}

#[test]
fn a_server_that_cannot_start_says_so_in_its_log_and_to_whoever_started_it() {
    let app = App::start(Setup::default());
    let second = app.command(&["serve"]);
    assert_eq!(second.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&second.stdout).expect("one object");
    assert_eq!((&line["event"], &line["level"]), (&"server.failed".into(), &"ERROR".into()));
    assert!(line["error"].as_str().expect("why").contains("another `dripfeed serve` runs"), "{line}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another `dripfeed serve` runs"));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_panic_is_an_event_that_says_where_and_not_what() {
    let mut app = App::prepared(Setup::default());
    app.launch(&[("FAILPOINTS", "extract.claimed=panic(quoted-out-of-a-row)")]);
    assert!(app.listens(), "{}", app.log());
    // The process may end before it has answered.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| app.upload(&app.key, people(2))));
    let panicked =
        app.until("it panics", || named(&app.events(), "thread.panicked").first().map(|line| (*line).clone()));
    assert_eq!((&panicked["level"], &panicked["thread"]), (&"ERROR".into(), &"extract".into()));
    assert!(panicked["location"].as_str().expect("a place").contains(".rs:"), "{panicked}");
    assert_eq!(panicked["ends_process"], true);
    assert_eq!(app.complaints(), "");
    assert!(!app.log().contains("quoted-out-of-a-row"), "{}", app.log());
}
