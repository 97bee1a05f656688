//! `--script FILE`: reads the rules by which the simulator behaves badly. Every fault of the file is told at once, each
//! with its line and with what to write instead.

use std::{
    fmt,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use warp::http::{HeaderName, HeaderValue, StatusCode};

use super::json;
use crate::{
    cli::error::CliError,
    clock::Clock,
    config,
    model::Timestamp,
    simulator::script::{Behaviour, Count, Fault, HeaderText, Rule, Script, When},
};

const RULES: &str = "answers";
/// What says which calls a rule is for, and what says what becomes of them.
const CONDITIONS: &str = "path, contains, row, try, call";
const EFFECTS: &str = "status, headers, json, text, fault, done, latency, closes_after";
const EXAMPLE: &str = "a script begins like\n  [[answers]]\n  path = \"/invites\"\n  status = 503";
const HOW_TO_COUNT: &str = "is a number from 1 on, like 3, or \"2-5\", \"10-\" or \"every 3\"";
const HOW_TO_HEAD: &str = "is a text or a whole number; \"now-10s\" and \"now+10s\" become an HTTP date";

/// The end of 9999: HTTP has no later date.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// Reads a script.
pub(super) fn read(path: &Path) -> Result<Script, CliError> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::Unusable(format!("the script {name} cannot be read: {error}")))?;
    parse(&text).map_err(|faults| {
        let lines: String = faults.iter().map(|fault| format!("\n{name}:{fault}")).collect();
        let what = "the script cannot be played; `dripfeed simulator --help` shows what one looks like";
        CliError::Unusable(format!("{what}{lines}"))
    })
}

/// Faults are told as `LINE: what is wrong`.
fn parse(text: &str) -> Result<Script, Vec<String>> {
    let mut faults = Faults::default();
    let rules = faults.script(text);
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let Faults(mut wrong) = faults;
    wrong.sort_by_key(|(at, _)| *at);
    if wrong.is_empty() {
        return Ok(Script { rules });
    }
    Err(wrong.iter().map(|(at, what)| format!("{}: {what}", line(*at))).collect())
}

/// What is wrong, each behind its place.
#[derive(Default)]
struct Faults(Vec<(usize, String)>);

type Item<'i> = Spanned<DeValue<'i>>;

impl Faults {
    fn add(&mut self, span: Range<usize>, what: impl fmt::Display) {
        self.0.push((span.start, what.to_string()));
    }

    fn script(&mut self, text: &str) -> Vec<Rule> {
        let top = match DeTable::parse(text) {
            Ok(top) => top.into_inner(),
            Err(error) => {
                self.add(error.span().unwrap_or_default(), format!("this is not TOML: {}", error.message()));
                return Vec::new();
            }
        };
        for (key, _) in top.iter().filter(|(key, _)| key.get_ref() != RULES) {
            self.add(key.span(), format!("`{}` is not known here; {EXAMPLE}", key.get_ref()));
        }
        let rules = top.iter().find(|(key, _)| key.get_ref() == RULES).map(|(_, rules)| rules);
        let tables = rules.and_then(|rules| rules.get_ref().as_array()).filter(|tables| !tables.is_empty());
        let Some(tables) = tables else {
            self.add(rules.map_or(0..0, Spanned::span), format!("there is no rule; {EXAMPLE}"));
            return Vec::new();
        };
        let mut rules: Vec<Rule> = Vec::new();
        for item in tables.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.add(item.span(), format!("a rule is a table; {EXAMPLE}"));
                continue;
            };
            let rule = self.rule(table, item.span());
            if let Some(earlier) = rules.iter().position(|earlier| earlier.when.covers(&rule.when)) {
                let what = format!("no call gets as far as this rule: the rule {} takes them all", earlier + 1);
                self.add(item.span(), format!("{what}; put this one before it, or give that one less to take"));
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Rule {
        let mut when = When::default();
        let mut then = Behaviour::default();
        let mut done = None;
        let mut effects = Vec::new();
        for (key, item) in table {
            let key = key.get_ref().as_ref();
            match key {
                "path" => when.path = self.path(item),
                "contains" => when.contains = self.text(key, item),
                "row" => when.rows = self.count(key, item),
                "try" => when.tries = self.count(key, item),
                "call" => when.calls = self.count(key, item),
                "status" => then.status = self.status(item),
                "headers" => then.headers = self.headers(item),
                "json" => then.body = Some(json::of(item.get_ref()).to_string().into()),
                "text" => then.body = self.text(key, item).map(Bytes::from),
                "fault" => then.fault = self.fault(item),
                "done" => done = self.truth(key, item),
                "latency" => then.latency = self.duration(key, item),
                "closes_after" => then.closes_after = self.duration(key, item),
                _ => {
                    let what = format!("`{key}` is no key of a rule; there are {CONDITIONS}, and {EFFECTS}");
                    self.add(item.span(), what);
                }
            }
            if EFFECTS.split(", ").any(|effect| effect == key) {
                effects.push((key, item.span()));
            }
        }
        if effects.is_empty() {
            self.add(span, format!("this rule changes nothing; say what happens, with one of {EFFECTS}"));
        }
        let span_of = |wanted: &str| effects.iter().find(|(key, _)| *key == wanted).map(|(_, span)| span.clone());
        if let (Some(_), Some(span)) = (span_of("json"), span_of("text")) {
            self.add(span, "an answer has one body: `json` or `text`");
        }
        if let Some(fault @ (Fault::Timeout | Fault::Connection)) = then.fault {
            let word = if fault == Fault::Timeout { "timeout" } else { "connection" };
            for key in ["status", "headers", "json", "text", "closes_after"] {
                if let Some(span) = span_of(key) {
                    self.add(span, format!("with `fault = \"{word}\"` nothing is answered: leave `{key}` out"));
                }
            }
        }
        // What is answered with anything but success is not done, unless the rule says so.
        then.is_done = done.unwrap_or_else(|| then.status.is_none_or(|status| status.is_success()));
        Rule { when, then: Arc::new(then) }
    }

    fn path(&mut self, item: &Item<'_>) -> Option<String> {
        let path = self.text("path", item)?;
        if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
            self.add(
                item.span(),
                "`path` is a path without a query, like \"/invites\"; for a query there is `contains`",
            );
        } else if path == "/stats" {
            self.add(item.span(), "`path`: \"/stats\" is the simulator's own, and always answered");
        }
        Some(path)
    }

    fn status(&mut self, item: &Item<'_>) -> Option<StatusCode> {
        let number = item.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
        let status = number.filter(|number| (200..600).contains(number)).and_then(|it| StatusCode::from_u16(it).ok());
        if status.is_none() {
            self.add(item.span(), "`status` is a number from 200 to 599");
        }
        status
    }

    fn fault(&mut self, item: &Item<'_>) -> Option<Fault> {
        match item.get_ref().as_str() {
            Some("timeout") => Some(Fault::Timeout),
            Some("connection") => Some(Fault::Connection),
            Some("cut-off") => Some(Fault::CutOff),
            _ => {
                let all = "\"timeout\" (no answer), \"connection\" (closed without one) or \"cut-off\" (half of one)";
                self.add(item.span(), format!("`fault` is {all}"));
                None
            }
        }
    }

    fn headers(&mut self, item: &Item<'_>) -> Vec<(HeaderName, HeaderText)> {
        let Some(table) = item.get_ref().as_table() else {
            self.add(item.span(), "`headers` is a table, like { Retry-After = 0 }");
            return Vec::new();
        };
        let mut headers = Vec::new();
        for (name, value) in table {
            let Ok(known) = HeaderName::from_bytes(name.get_ref().as_bytes()) else {
                self.add(name.span(), format!("`{}` cannot be the name of a header", name.get_ref()));
                continue;
            };
            let values = value.get_ref().as_array().map_or_else(|| vec![value], |values| values.iter().collect());
            for value in values {
                match header_text(value.get_ref()) {
                    Some(text) => headers.push((known.clone(), text)),
                    None => self.add(value.span(), format!("`headers.{}` {HOW_TO_HEAD}", name.get_ref())),
                }
            }
        }
        headers
    }

    fn count(&mut self, key: &str, item: &Item<'_>) -> Count {
        let count = match item.get_ref() {
            DeValue::Integer(number) => counted(number.as_str()),
            DeValue::String(text) => counted(text),
            _ => None,
        };
        if count.is_none() {
            self.add(item.span(), format!("`{key}` {HOW_TO_COUNT}"));
        }
        count.unwrap_or_default()
    }

    fn duration(&mut self, key: &str, item: &Item<'_>) -> Option<Duration> {
        let read = item.get_ref().as_str().map(config::parse_duration);
        match read {
            Some(Ok(duration)) => Some(duration),
            _ => {
                self.add(item.span(), format!("`{key}` is a duration, like \"500ms\" or \"30s\""));
                None
            }
        }
    }

    fn text(&mut self, key: &str, item: &Item<'_>) -> Option<String> {
        let text = item.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.add(item.span(), format!("`{key}` is a text, in quotes"));
        }
        text
    }

    fn truth(&mut self, key: &str, item: &Item<'_>) -> Option<bool> {
        let truth = item.get_ref().as_bool();
        if truth.is_none() {
            self.add(item.span(), format!("`{key}` is true or false"));
        }
        truth
    }
}

/// `3`, `2-5`, `10-`, `every 3`.
fn counted(text: &str) -> Option<Count> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number > 0);
    if let Some(step) = text.strip_prefix("every ") {
        return number(step).map(Count::Every);
    }
    match text.split_once('-') {
        None => number(text).map(|number| Count::Span(number, number)),
        Some((first, "")) => number(first).map(|first| Count::Span(first, u64::MAX)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Count::Span(first, last))
        }
    }
}

fn header_text(value: &DeValue<'_>) -> Option<HeaderText> {
    let text = match value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) => number.as_str(),
        _ => return None,
    };
    if let Some(ahead) = text.strip_prefix("now") {
        let (sign, by) = ahead.split_at_checked(1)?;
        let by = config::parse_duration(by).ok()?;
        return match sign {
            "+" => Some(date(move |now| now.after(by))),
            "-" => Some(date(move |now| now.before(by))),
            _ => None,
        };
    }
    HeaderValue::from_str(text).ok().map(HeaderText::Fixed)
}

/// An HTTP date, worked out from the time of each answer.
fn date(of: impl Fn(Timestamp) -> Timestamp + Send + Sync + 'static) -> HeaderText {
    let clock = Clock::machine();
    HeaderText::Made(Arc::new(move || {
        let at = Duration::from_millis(u64::try_from(of(clock.now()).0).unwrap_or(0)).min(LAST_DATE);
        HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + at)).unwrap_or(HeaderValue::from_static(""))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_says_is_what_it_means() {
        let script = parse(
            r#"
            [[answers]]
            path = "/invites"
            contains = "p7@"
            row = 3
            try = "2-"
            call = "every 4"
            status = 429
            headers = { Retry-After = 0, Date = "now-10s", Set-Cookie = ["a=1", "b=2"] }
            json = { ok = false, list = [1.10, "x", 0x10] }
            done = true
            latency = "2s"
            closes_after = "100ms"
            [[answers]]
            fault = "cut-off"
            [[answers]]
            row = "2-5"
            status = 500
            "#,
        );
        // The last one is behind one that takes everything.
        let faults = script.expect_err("a fault");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("16: no call gets as far as this rule: the rule 2 takes them all"), "{faults:?}");

        let script =
            parse("[[answers]]\nrow = \"2-5\"\nstatus = 500\n[[answers]]\nfault = \"timeout\"\n").expect("good");
        let [first, second] = &script.rules[..] else { panic!("{script:?}") };
        assert_eq!((first.when.rows, first.when.tries), (Count::Span(2, 5), Count::default()));
        assert_eq!((first.then.status, first.then.is_done), (Some(StatusCode::INTERNAL_SERVER_ERROR), false));
        assert_eq!(
            (second.then.fault, second.then.is_done),
            (Some(Fault::Timeout), true),
            "done, and nobody hears of it"
        );
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_what_to_write() {
        let faults = parse(
            "colour = 1\n[[answers]]\npath = \"invites\"\nrow = 0\ntry = \"5-2\"\ncall = \"every\"\nstatus = 99\n\
             headers = { \"a b\" = 1, X = \"now 3\", Y = true }\nfault = \"boom\"\nlatency = 5\ndone = 1\ncolor = 1\n\
             [[answers]]\npath = \"/stats\"\n[[answers]]\nfault = \"connection\"\nstatus = 200\njson = {}\ntext = \"x\"\n",
        );
        let faults = faults.expect_err("faults");
        let expected = [
            ("1", "`colour` is not known here; a script begins like"),
            ("3", "`path` is a path without a query, like \"/invites\""),
            ("4", "`row` is a number from 1 on, like 3, or \"2-5\""),
            ("5", "`try` is a number"),
            ("6", "`call` is a number"),
            ("7", "`status` is a number from 200 to 599"),
            ("8", "`a b` cannot be the name of a header"),
            ("8", "`headers.X` is a text or a whole number"),
            ("8", "`headers.Y` is a text or a whole number"),
            ("9", "`fault` is \"timeout\" (no answer), \"connection\""),
            ("10", "`latency` is a duration, like \"500ms\""),
            ("11", "`done` is true or false"),
            ("12", "`color` is no key of a rule; there are path, contains"),
            ("13", "this rule changes nothing; say what happens, with one of status"),
            ("14", "`path`: \"/stats\" is the simulator's own"),
            ("17", "with `fault = \"connection\"` nothing is answered: leave `status` out"),
            ("18", "with `fault = \"connection\"` nothing is answered: leave `json` out"),
            ("19", "an answer has one body"),
            ("19", "with `fault = \"connection\"` nothing is answered: leave `text` out"),
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, (line, begins)) in faults.iter().zip(expected) {
            assert!(fault.starts_with(&format!("{line}: {begins}")), "{fault} and not {line}: {begins}");
        }
        for (nothing, says) in
            [("", "1: there is no rule; "), ("answers = 3", "1: there is no rule; "), ("a = ", "1: ")]
        {
            let faults = parse(nothing).expect_err(nothing);
            assert!(faults[0].starts_with(says), "{faults:?}");
        }
        assert!(parse("[[answers]]\nstatus = 5 5").expect_err("no TOML")[0].starts_with("2: this is not TOML: "));
    }
}
