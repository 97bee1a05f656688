//! A batch as it changes, as server-sent events.

use std::{
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    idle, read,
    support::app::{App, DISPATCH, OPERATOR, Setup, agent, people},
};

/// An event, with every field that it has.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    batch: Value,
}

struct Events(BufReader<ureq::BodyReader<'static>>);

impl Events {
    fn open(app: &App, key: &str, id: &str) -> Self {
        let response = ask(app, key, id, None);
        assert_eq!(response.status().as_u16(), 200);
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!((header("content-type"), header("cache-control")), (Some("text/event-stream"), Some("no-store")));
        assert!(header("x-request-id").is_some());
        Self(BufReader::new(response.into_body().into_reader()))
    }

    /// The next event; `None` where the stream has ended.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("the stream ends in order") == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", data)) => event.batch = serde_json::from_str(data).expect("JSON"),
                Some(("retry", pause)) => assert!(pause.parse::<u64>().is_ok()),
                None if !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }
}

fn ask(app: &App, key: &str, id: &str, last: Option<&str>) -> ureq::http::Response<ureq::Body> {
    let url = app.url(&format!("/v2/batches/{id}/events"));
    let mut request = agent().get(url).header("Authorization", format!("Bearer {key}"));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    request.call().expect("an answer")
}

#[test]
fn a_batch_is_told_at_once_and_as_it_changes_until_it_is_finished() {
    let app = idle();
    let (id, other) = (app.accepted(people(4)), app.accepted(people(7)));
    for batch in [&id, &other] {
        app.until_status(batch, "queued");
    }
    let (mut events, mut as_operator) = (Events::open(&app, &app.key, &id), Events::open(&app, OPERATOR, &id));
    let first = events.next().expect("an event");
    let links = first.batch["links"].as_object().expect("links");
    let this = format!("/v2/batches/{id}");
    let expected = ["", "/rows", "/errors", "/results.csv", "/skipped", "/events"].map(|end| json!(this.clone() + end));
    assert_eq!(links.values().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!((first.name.as_str(), &first.batch["status"]), ("batch", &json!("queued")));
    let mut shown = app.batch(&id);
    let mut told = first.batch.clone();
    for view in [&mut shown, &mut told] {
        view["estimate"].take();
    }
    assert_eq!(told, shown, "an event is the batch as it is shown");
    app.post(&app.key, &format!("/v2/batches/{id}/pause"));
    let paused = events.next().expect("an event");
    assert_eq!((&paused.batch["paused"], &paused.batch["estimate"]), (&json!(true), &Value::Null));
    app.post(&app.key, &format!("/v2/batches/{id}/resume"));
    assert_eq!(events.next().expect("an event").batch["paused"], json!(false));
    app.post(DISPATCH, "/ops/v1/dispatch");
    let mut last = Event::default();
    while let Some(event) = events.next() {
        let done = |event: &Event| event.batch["counts"]["completed"].as_u64().unwrap_or(0);
        assert!(done(&event) >= done(&last) && event.batch["id"] == json!(id));
        last = event;
    }
    assert_eq!((&last.batch["status"], &last.batch["counts"]["completed"]), (&json!("completed"), &json!(4)));
    assert_eq!(json!(last.id), last.batch["finished_at"], "the end of a batch is marked by its time");
    let mut of_operator = Vec::new();
    while let Some(event) = as_operator.next() {
        assert_eq!(event.batch["client"], "acme");
        of_operator.push(event.batch["status"].clone());
    }
    assert_eq!(of_operator.last(), Some(&json!("completed")));

    let mut again = Events::open(&app, &app.key, &id);
    assert_eq!(again.next().expect("an event").batch, last.batch);
    assert!(again.next().is_none(), "a finished batch is told once");
    let seen = read(ask(&app, &app.key, &id, Some(&last.id)));
    assert_eq!((seen.status, seen.body.len()), (204, 0), "and whoever has seen its end is sent home");
}

#[test]
fn a_stream_on_which_nothing_happens_shows_that_it_lives() {
    let app = idle();
    let id = app.accepted(people(1));
    app.until_status(&id, "queued");
    let mut events = Events::open(&app, &app.key, &id);
    assert!(events.next().is_some());
    let mut line = String::new();
    while !line.starts_with(':') {
        line.clear();
        assert!(events.0.read_line(&mut line).expect("the stream goes on") > 0);
    }
    assert_eq!(line, ": nothing new\n");
}

#[test]
fn nobody_watches_another_clients_batch_and_nobody_opens_streams_without_end() {
    let app = idle();
    let id = app.accepted(people(1));
    let other = app.add_client("other", None);
    for (key, id, status) in
        [(other.as_str(), id.as_str(), 404), (DISPATCH, &id, 403), ("wrong", &id, 401), (&app.key, "bat_nonsense", 404)]
    {
        assert_eq!(ask(&app, key, id, None).status().as_u16(), status);
    }
    let mut open: Vec<_> = (0..32).map(|_| Events::open(&app, &app.key, &id)).collect();
    let refused = read(ask(&app, &app.key, &id, None));
    assert_eq!(refused.code(), (429, "busy".to_owned()));
    assert!(refused.header("retry-after").is_some());
    assert!(Events::open(&app, OPERATOR, &id).next().is_some(), "others have places of their own");
    assert!(open.iter_mut().all(|events| events.next().is_some()));
    drop(open);
    app.until("the places are free again", || (ask(&app, &app.key, &id, None).status().as_u16() == 200).then_some(()));
}

#[test]
fn a_server_that_ends_does_not_wait_for_those_who_watch() {
    let drain = Duration::from_secs(50);
    let workers = format!("under_way = 64\ndrain = \"{}s\"", drain.as_secs());
    let mut app = App::start(Setup { workers, dispatch: String::new(), ..Setup::default() });
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    let mut watched: Vec<_> = (0..3).map(|_| Events::open(&app, &app.key, &id)).collect();
    for events in &mut watched {
        assert!(events.next().is_some());
    }
    let begun = Instant::now();
    assert_eq!(app.terminate(), Some(0));
    assert!(begun.elapsed() < drain, "the streams ended by themselves");
    assert!(watched.iter_mut().all(|events| events.next().is_none()), "in order");
}
