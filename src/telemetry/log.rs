//! Log lines: one event a line, JSON for a pipeline, text for a terminal.
//!
//! Every event has a name that does not change (`event = "batch.queued"`), a sentence, and what it is about as fields of
//! its own: `request_id`, `batch`, `row`, `step`. The levels mean: `ERROR` somebody has to act, or data is at risk; `WARN`
//! something is worse than usual and mends itself, or an operator did something with consequences; `INFO` what an
//! operator looks for; `DEBUG` row by row and call by call; `TRACE` the instant of each release.
//!
//! No line holds a value of a row, a file's name, a key, a token or an address of a person: what is logged are ids,
//! numbers and our own words. Nor does it hold other crates' words below a warning, nor what a panic says: both quote.

use std::{
    fmt::{self, Debug},
    io::IsTerminal,
};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{clock::Clock, config::Log, panics};

/// The crate whose events may be told at every level.
const OURS: &str = "dripfeed";
/// What a line of another crate is called.
const FOREIGN: &str = "library.said";
/// Fields that every line has of itself.
const OWN_FIELDS: [&str; 3] = ["timestamp", "level", "target"];
/// What the crate `log` hands over of a record besides its message.
const FOREIGN_TARGET: &str = "log.target";
const FOREIGN_FIELDS: &str = "log.";

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A server's: its log is what it has to say.
    Stdout,
    /// A command's, whose result is on standard output.
    Stderr,
}

/// Begins to log, and lets panics be told the same way and end the process. A second call, as by `demo` inside one process, changes nothing.
pub fn init(log: &Log, output: Output) {
    let begun = match output {
        Output::Stdout => begin(log, std::io::stdout, std::io::stdout().is_terminal()),
        Output::Stderr => begin(log, std::io::stderr, std::io::stderr().is_terminal()),
    };
    if begun {
        panics::end_the_process();
    }
}

fn begin<W>(log: &Log, writer: W, is_terminal: bool) -> bool
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A reader of the log who is gone, or a full disk under it, must not end the server.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match is_terminal {
        true => lines.boxed(),
        false => lines.fmt_fields(JsonFields::new()).event_format(JsonLines(Clock::machine())).boxed(),
    };
    let filter = EnvFilter::new(&log.filter);
    tracing_subscriber::registry().with(filter).with(filter_fn(does_not_quote)).with(lines).try_init().is_ok()
}

/// What other crates say below a warning quotes requests and answers, which hold what rows hold.
fn does_not_quote(metadata: &Metadata<'_>) -> bool {
    is_ours(metadata.target()) || *metadata.level() <= Level::WARN
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// An event as one JSON object, everything at its top level: that is what Loki, Datadog and Elasticsearch take fields
/// from without being told how. tracing-subscriber's own form can do so for an event's fields, but keeps those of the
/// spans around it in a list.
struct JsonLines(Clock);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut said = Fields::default();
        event.record(&mut said);
        let Fields(mut said) = said;
        let target = said.remove(FOREIGN_TARGET).unwrap_or_else(|| metadata.target().into());
        let name = said.remove("event").unwrap_or_else(|| FOREIGN.into());

        let mut line = Map::new();
        line.insert("timestamp".into(), self.0.now().to_string().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("event".into(), name);
        line.extend(said.remove_entry("message"));
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|fields| fields.fields.as_str());
            if let Some(Ok(Value::Object(fields))) = fields.map(serde_json::from_str) {
                line.extend(fields);
            }
        }
        let is_theirs = |name: &String| name.starts_with(FOREIGN_FIELDS) || OWN_FIELDS.contains(&name.as_str());
        line.extend(said.into_iter().filter(|(name, _)| !is_theirs(name)));
        line.insert("target".into(), target);
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn keep(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.keep(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::model::Timestamp;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged meanwhile.
    fn logged(filter: &str, what: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines(Clock::manual(Timestamp(1_786_000_000_123))));
        let subscriber =
            tracing_subscriber::registry().with(EnvFilter::new(filter)).with(filter_fn(does_not_quote)).with(layer);
        tracing::subscriber::with_default(subscriber, what);
        let text = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }

    #[test]
    fn a_line_has_everything_at_its_top_level_the_event_before_the_spans() {
        let lines = logged("info", || {
            let request = tracing::info_span!("request", request_id = "req_1", batch = "of the request");
            let _request = request.enter();
            let row = tracing::info_span!("row", row = 7);
            let _row = row.enter();
            tracing::warn!(
                event = "a.b",
                batch = %"bat_1",
                rows = 3_u32,
                level = "mine",
                kind = ?Some(1),
                "two\nlines"
            );
        });
        let expected = serde_json::json!({
            "timestamp": "2026-08-06T07:06:40.123Z", "level": "WARN", "event": "a.b", "message": "two\nlines",
            "request_id": "req_1", "batch": "bat_1", "row": 7, "rows": 3, "kind": "Some(1)",
            "target": "dripfeed::telemetry::log::tests"
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn other_crates_are_heard_from_warnings_on_whatever_is_asked_for() {
        let lines = logged("trace", || {
            tracing::info!(target: "ureq::run", "GET /?postcode=AB1");
            tracing::debug!(target: "dripfeedling", "no crate of ours");
            tracing::warn!(target: "ureq::run", "slow");
            tracing::trace!(target: "dripfeed::releases", event = "x.y");
        });
        let told: Vec<_> = lines.iter().map(|line| (&line["event"], &line["target"])).collect();
        let (foreign, theirs) = (FOREIGN.into(), "ureq::run".into());
        assert_eq!(told, [(&foreign, &theirs), (&"x.y".into(), &"dripfeed::releases".into())]);
    }
}
