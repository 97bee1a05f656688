//! A row's way as a trace, as a collector of OpenTelemetry's protocol gets it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;

use crate::support::{
    app::{App, Setup, people},
    server::{Reply, Server, closed_port, ok, status},
};

const SECRET: &str = "Bearer hush-hush-hush";

fn traced(endpoint: &str) -> String {
    format!(
        "[traces]\nendpoint = \"{endpoint}/v1/traces\"\nsample = 1.0\nservice_name = \"dripfeed-north\"\nheaders = {{ \
         Authorization = \"{SECRET}\" }}\n"
    )
}

/// An API that fails the first invite of house number 1, and takes everything else.
fn stumbling() -> Server {
    let failed = AtomicBool::new(false);
    Server::start(move |received| match received.path() {
        "/address-links" => ok("{\"link\":\"private-link\"}"),
        "/addresses" => ok("{\"addresses\":[{\"id\":\"private-id\"}]}"),
        _ if received.body.contains("p1@") && !failed.swap(true, Ordering::SeqCst) => status(500),
        _ => Reply::Answer(201, Vec::new(), "{\"check_id\":\"private-check\"}".to_owned()),
    })
}

fn requests(collector: &Server) -> Vec<ExportTraceServiceRequest> {
    let received = collector.received();
    received.iter().map(|it| ExportTraceServiceRequest::decode(&it.bytes[..]).expect("a request for spans")).collect()
}

fn spans(collector: &Server) -> Vec<Span> {
    let resources = requests(collector).into_iter().flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn told(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key).and_then(|it| it.value.clone()?.value);
    match found {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Of one trace: its spans by name, each list in order of time.
fn by_name(spans: &[Span], trace: &[u8]) -> BTreeMap<String, Vec<Span>> {
    let mut named: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.trace_id == trace) {
        named.entry(span.name.clone()).or_default().push(span.clone());
    }
    named.values_mut().for_each(|spans| spans.sort_by_key(|span| span.start_time_unix_nano));
    named
}

/// The trace of a row.
fn of_row(spans: &[Span], batch: &str, row: u32) -> BTreeMap<String, Vec<Span>> {
    let is_its = |span: &&Span| {
        span.name == "claim"
            && told(&span.attributes, "dripfeed.batch.id") == batch
            && told(&span.attributes, "dripfeed.row") == row.to_string()
    };
    let trace = &spans.iter().find(is_its).unwrap_or_else(|| panic!("no claim of {batch}/{row}")).trace_id;
    by_name(spans, trace)
}

#[test]
fn a_row_is_one_trace_of_its_claims_and_requests_and_a_retry_is_in_it_too() {
    let collector = Server::start(|_| status(200));
    let api = stumbling();
    let mut app =
        App::start(Setup { more: traced(&collector.url()), downstream: Some(api.address), ..Setup::default() });
    let one = app.accepted(people(3));
    app.until_status(&one, "completed");
    let other = app.accepted(people(2));
    app.until_status(&other, "completed");
    // What waits to be sent goes out before the end.
    assert_eq!(app.terminate(), Some(0));

    let spans = spans(&collector);
    let names = ["POST /address-links", "GET /addresses", "POST /invites"];
    for (batch, rows) in [(&one, 3), (&other, 2)] {
        for row in 1..=rows {
            let trace = of_row(&spans, batch, row);
            let (root, claims) = (&trace["row"], &trace["claim"]);
            let is_retried = batch == &one && row == 1;
            assert_eq!((root.len(), claims.len()), (1, if is_retried { 2 } else { 1 }), "{trace:#?}");
            assert!(root[0].parent_span_id.is_empty() && claims.iter().all(|it| it.parent_span_id == root[0].span_id));
            let requests: Vec<&Span> = names.iter().map(|name| &trace[*name][0]).collect();
            assert_eq!(trace.len(), 5, "{trace:#?}");
            for (request, next) in requests.iter().zip(&requests[1..]) {
                assert!(request.end_time_unix_nano <= next.start_time_unix_nano, "one after the other: {trace:#?}");
            }
            for request in &requests {
                assert_eq!((request.kind, &request.parent_span_id), (SpanKind::Client as i32, &claims[0].span_id));
            }
            let attributes = &requests[0].attributes;
            let expected = [
                ("http.request.method", "POST".to_owned()),
                ("http.response.status_code", "200".to_owned()),
                ("server.address", "127.0.0.1".to_owned()),
                ("server.port", api.address.port().to_string()),
                ("dripfeed.step", "address-links".to_owned()),
                ("dripfeed.dependency", "addresses".to_owned()),
            ];
            for (key, value) in expected {
                assert_eq!(told(attributes, key), value, "{key}");
            }
            let (link, upload) = (&root[0].links[0], by_name(&spans, &root[0].links[0].trace_id));
            assert_eq!((&link.span_id, upload.len()), (&upload["upload"][0].span_id, 2));
            assert_eq!(upload["extraction"][0].parent_span_id, link.span_id);
            assert_eq!(told(&upload["upload"][0].attributes, "dripfeed.batch.id"), *batch);
        }
    }
    let retried = of_row(&spans, &one, 1);
    let [first, second] = &retried["POST /invites"][..] else { panic!("two invites: {retried:#?}") };
    assert_eq!(
        (told(&first.attributes, "error.type"), told(&second.attributes, "error.type")),
        ("500".into(), "".into())
    );
    assert_eq!(told(&second.attributes, "http.request.resend_count"), "1");
    assert_eq!(second.parent_span_id, retried["claim"][1].span_id);

    for received in collector.received() {
        assert_eq!((received.path(), &received.headers["authorization"][..]), ("/v1/traces", SECRET));
        for private in ["@mail", "Smith", "private-", "07700", "AB1 2CD", "AB1%202CD"] {
            assert!(!received.body.contains(private), "{private} in a trace");
        }
    }
    let resource = requests(&collector)[0].resource_spans[0].resource.clone().expect("a resource");
    assert_eq!(told(&resource.attributes, "service.name"), "dripfeed-north");
}

#[test]
fn a_row_worked_by_hand_is_in_the_same_trace_as_its_earlier_claims() {
    let collector = Server::start(|_| status(200));
    let api = stumbling();
    let more = format!("{}[workflows.invite]\nmax_attempts = 1", traced(&collector.url()));
    let mut app = App::start(Setup { more, downstream: Some(api.address), ..Setup::default() });
    let id = app.accepted(people(2));
    assert_eq!(app.until_status(&id, "completed")["counts"]["failed"], 1);
    app.terminate();
    let ran = app.command(&["row", "run", &format!("{id}/1")]);
    assert!(ran.status.success() || String::from_utf8_lossy(&ran.stderr).contains("already"), "{ran:?}");
    app.serve();
    if !ran.status.success() {
        assert_eq!(app.post(&app.key, &format!("/v2/batches/{id}/retry")).0, 200);
    }
    assert_eq!(app.until_status(&id, "completed")["counts"]["failed"], 0);
    app.terminate();
    let trace = of_row(&spans(&collector), &id, 1);
    assert_eq!((trace["claim"].len(), trace["row"].len(), trace["POST /invites"].len()), (2, 2, 2), "{trace:#?}");
    assert_ne!(trace["row"][0].span_id, trace["row"][1].span_id, "each try of a person's is a row of its own");
}

#[test]
fn a_collector_that_is_away_costs_its_spans_and_one_line_until_it_is_back() {
    let (is_up, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let collector = {
        let (is_up, asked) = (is_up.clone(), asked.clone());
        Server::start(move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            status(if is_up.load(Ordering::SeqCst) { 200 } else { 400 })
        })
    };
    let app = App::start(Setup { more: traced(&collector.url()), ..Setup::default() });
    let events = |name: &str| app.events().into_iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    for asks in 1..=3 {
        let id = app.accepted(people(5 + asks));
        app.until_status(&id, "completed");
        app.until("the collector is asked", || (asked.load(Ordering::SeqCst) >= asks).then_some(()));
    }
    app.until("it is told", || (!events("traces.not_sent").is_empty()).then_some(()));
    is_up.store(true, Ordering::SeqCst);
    let id = app.accepted(people(20));
    app.until_status(&id, "completed");
    let again = app.until("it is told that it is back", || events("traces.sent_again").pop());
    assert!(again["lost"].as_u64() >= Some(10), "{again}");
    let gone = events("traces.not_sent");
    assert_eq!((gone.len(), &gone[0]["level"]), (1, &"WARN".into()), "{gone:?}");
    assert_eq!(gone[0]["reason"], "the collector answers HTTP 400");
    assert!(!app.log().contains("hush-hush"), "no header is logged");
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let mut app = App::start(Setup { more: traced(&format!("http://{}", closed_port())), ..Setup::default() });
    let id = app.accepted(people(50));
    app.until_status(&id, "completed");
    let gone = app.until("it is told", || app.events().into_iter().find(|line| line["event"] == "traces.not_sent"));
    assert_eq!(gone["reason"], "nobody listens there");
    assert_eq!(app.terminate(), Some(0));
}
