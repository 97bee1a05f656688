//! Templates: texts with `{{ row.postcode }}` in them, filled from a row, what its steps saved, and the upload's
//! context. The language is Jinja's, by minijinja, with its filters (`split`, `first`, `default`, ...).
//!
//! Strict: a name that is not there is an error, and a `null` is not there. Errors quote the template, which the
//! operator wrote, and never a value, which is somebody's private data. Templates know no files and no other templates.

mod exact;
mod short;

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, LazyLock},
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use short::Short;

use crate::model::Saved;

/// The most bytes that one template may come to.
pub const MAX_OUTPUT: usize = 64 * 1024;
/// The most work that one rendering may be, in minijinja's fuel: about one unit an instruction.
pub const MAX_WORK: u64 = 100_000;
/// The names that a template can begin with.
pub const ROOTS: [&str; 3] = ["row", "saved", "context"];

/// Everything but the unreserved characters of RFC 3986, section 2.3.
pub const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const ONLY: &str = "template";
const EMPTY_PART: &str = "a part of a path is empty";

/// A template that cannot be compiled, or not be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not a template.
    #[error("not a template: {0}")]
    Syntax(String),
    /// It begins with a name that no template has.
    #[error("`{0}` is not a name that a template can use: there are row, saved and context")]
    UnknownName(String),
    /// It asks for something that is not there.
    #[error("`{0}` is not there")]
    Missing(String),
    /// A path would lose one of its parts.
    #[error("`{0}` is empty, and would leave a part of the path empty")]
    EmptyPart(String),
    /// It came to more than [`MAX_OUTPUT`] bytes.
    #[error("it comes to more than {MAX_OUTPUT} bytes")]
    TooLong,
    /// It took more than [`MAX_WORK`].
    #[error("it takes too much work to fill")]
    TooMuchWork,
    /// A filter was given something that it cannot use.
    #[error("`{expression}` cannot be evaluated: {kind}")]
    Failed {
        /// As the template has it.
        expression: String,
        /// The kind of fault.
        kind: String,
    },
}

/// What templates are filled from: `row`, `saved` and `context`.
pub struct Scope<'a> {
    row: Vec<(&'a str, &'a str)>,
    saved: &'a BTreeMap<String, Saved>,
    context: &'a serde_json::Value,
    /// As minijinja wants it; made when a template needs more than a text by its name.
    whole: OnceCell<Value>,
}

impl<'a> Scope<'a> {
    /// `row` by column, where a later cell of the same name counts, `saved` by the name that a step saved under, `context` as it was uploaded (an object).
    pub fn new(
        row: impl IntoIterator<Item = (&'a str, &'a str)>,
        saved: &'a BTreeMap<String, Saved>,
        context: &'a serde_json::Value,
    ) -> Self {
        Self { row: row.into_iter().collect(), saved, context, whole: OnceCell::new() }
    }

    /// A member of `row`, `saved` or `context` as a text, where it is there and one text says all of it: numbers with every
    /// digit that they came with.
    fn text(&self, root: &str, member: &str) -> Option<Cow<'a, str>> {
        match root {
            "row" => {
                let cell = self.row.iter().rev().find(|(name, _)| *name == member);
                cell.map(|(_, cell)| Cow::Borrowed(*cell))
            }
            "saved" => exact::text(self.saved.get(member)?.json()),
            _ => match self.context.get(member)? {
                serde_json::Value::String(text) => Some(Cow::Borrowed(text)),
                other => exact::text(&other.to_string()).map(|text| Cow::Owned(text.into_owned())),
            },
        }
    }

    /// A member of `saved` or `context`, as JSON, as it came.
    fn json(&self, root: &str, member: &str) -> Option<Cow<'a, str>> {
        match root {
            "saved" => self.saved.get(member).map(|saved| Cow::Borrowed(saved.json())),
            "context" => self.context.get(member).map(|value| Cow::Owned(value.to_string())),
            _ => None,
        }
    }

    fn whole(&self) -> &Value {
        self.whole.get_or_init(|| {
            let row = Value::from_pairs(self.row.iter().copied());
            let saved =
                Value::from_pairs(self.saved.iter().map(|(name, value)| (name.as_str(), without_null(&value.value()))));
            Value::from_pairs([("row", row), ("saved", saved), ("context", without_null(self.context))])
        })
    }
}

/// JSON as templates see it. A `null` counts as absent, wherever it stands.
fn without_null(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::UNDEFINED,
        serde_json::Value::Array(items) => items.iter().map(without_null).collect(),
        serde_json::Value::Object(members) => {
            Value::from_pairs(members.iter().map(|(name, value)| (name.as_str(), without_null(value))))
        }
        serde_json::Value::Bool(it) => Value::from(*it),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(whole)) => Value::from(whole),
            (None, None) => Value::from(number.as_f64()),
        },
    }
}

/// A compiled template.
pub struct Template(Compiled);

enum Compiled {
    /// Nothing to fill in.
    Text(String),
    /// The short way of filling it, where it has one, and the long one.
    Template { short: Option<Short>, long: Long },
}

/// An environment with one template in it; what is built in is shared by all of them.
struct Long(Box<Environment<'static>>);

impl Template {
    /// Compiles a text, and checks as much as can be checked without a row: syntax, first names, filters.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        Self::compile(source, &PLAIN, Short::of(source, false))
    }

    /// Like [`Template::new`], for a path: each value that is filled in is percent-encoded as a whole, so that it can
    /// add neither a segment nor a query, and must not be empty.
    pub fn path(source: &str) -> Result<Self, TemplateError> {
        Self::compile(source, &PATH, Short::of(source, true))
    }

    fn compile(source: &str, base: &Environment<'static>, short: Option<Short>) -> Result<Self, TemplateError> {
        if !source.contains('{') {
            return Ok(Self(Compiled::Text(source.to_owned())));
        }
        let mut environment = Box::new(base.clone());
        environment
            .add_template_owned(ONLY, source.to_owned())
            .map_err(|error| TemplateError::Syntax(error.detail().unwrap_or("it cannot be read").to_owned()))?;
        let long = Long(environment);
        long.check()?;
        Ok(Self(Compiled::Template { short, long }))
    }

    /// Where the template is one saved value or one of the context and nothing else: that value as JSON, if it is there and no
    /// text.
    pub fn value<'a>(&self, scope: &Scope<'a>) -> Option<Cow<'a, str>> {
        let Compiled::Template { short: Some(short), .. } = &self.0 else { return None };
        let (root, member) = short.only_name()?;
        scope.json(root, member).filter(|json| !json.starts_with(['n', '"']))
    }

    /// The text for these values.
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, TemplateError> {
        match &self.0 {
            Compiled::Text(text) => Ok(text.clone()),
            Compiled::Template { short, long } => {
                let filled = short.as_ref().and_then(|short| short.fill(scope));
                filled.map_or_else(|| long.fill(scope.whole()).map_err(|error| told(&error)), Ok)
            }
        }
    }
}

impl Long {
    fn check(&self) -> Result<(), TemplateError> {
        let environment = &self.0;
        let names = environment.get_template(ONLY).map(|template| template.undeclared_variables(false));
        let known = |name: &String| ROOTS.contains(&name.as_str()) || environment.globals().any(|(it, _)| it == name);
        if let Some(unknown) = names.unwrap_or_default().into_iter().filter(|name| !known(name)).min() {
            return Err(TemplateError::UnknownName(unknown));
        }
        // Filters are looked up when they are reached, so it is filled once with a text for every name. Whatever else
        // goes wrong with that is not the template's fault.
        let anything = Value::from_pairs(ROOTS.map(|root| (root, Value::from_object(Anything))));
        match self.fill(&anything) {
            Err(error) if is_unknown(error.kind()) => Err(told(&error)),
            _ => Ok(()),
        }
    }
    fn fill(&self, scope: &Value) -> Result<String, minijinja::Error> {
        let mut text = Bounded(Vec::new());
        self.0.get_template(ONLY)?.render_captured_to(scope.clone(), &mut text)?;
        String::from_utf8(text.0).map_err(|_| ErrorKind::WriteFailure.into())
    }
}

/// Whether a text is a template, and asks for nothing that no row can have.
pub fn check(source: &str) -> Result<(), TemplateError> {
    Template::new(source).map(drop)
}

/// The names under which a template asks for what steps saved (`link` of `{{ saved.link }}`); none where it says by itself
/// what holds in the place of what is not there.
pub fn saved_names(source: &str) -> BTreeSet<String> {
    let names = match Template::new(source) {
        Ok(Template(Compiled::Template { long, .. }))
            if !["default", "defined", "if "].iter().any(|it| source.contains(it)) =>
        {
            long.0.get_template(ONLY).map(|template| template.undeclared_variables(true)).unwrap_or_default()
        }
        _ => return BTreeSet::new(),
    };
    let member = |name: &String| Some(name.strip_prefix("saved.")?.split('.').next()?.to_owned());
    names.iter().filter_map(member).collect()
}

fn is_unknown(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction)
}

/// Only the kind of the fault and the part of the template where it lies: minijinja's own words can hold values.
fn told(error: &minijinja::Error) -> TemplateError {
    let part = error.range().and_then(|range| error.template_source()?.get(range));
    let expression = part.unwrap_or("a part of it").to_owned();
    match error.kind() {
        ErrorKind::UndefinedError => TemplateError::Missing(expression),
        ErrorKind::WriteFailure => TemplateError::TooLong,
        ErrorKind::OutOfFuel => TemplateError::TooMuchWork,
        _ if error.detail() == Some(EMPTY_PART) => TemplateError::EmptyPart(expression),
        kind => TemplateError::Failed { expression, kind: kind.to_string() },
    }
}

static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = strict();
    environment.set_formatter(|out, _, value| Ok(out.write_str(&as_text(value)?)?));
    environment
});

static PATH: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = strict();
    environment.set_formatter(percent_encoded);
    environment
});

fn strict() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(MAX_WORK));
    // So that errors know which part of the template they are about.
    environment.set_debug(true);
    environment.remove_global("debug");
    environment
}

/// A value as a text: as JSON writes it, where it is no text itself.
fn as_text(value: &Value) -> Result<String, minijinja::Error> {
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Seq | ValueKind::Map => Ok(serde_json::to_string(value)
            .ok()
            .and_then(|json| exact::spaced(&json))
            .unwrap_or_else(|| value.to_string())),
        _ => Ok(value.to_string()),
    }
}

fn percent_encoded(out: &mut Output, _: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    let text = as_text(value)?;
    if text.is_empty() {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, EMPTY_PART));
    }
    Ok(write!(out, "{}", utf8_percent_encode(&text, RESERVED))?)
}

/// Has every name, and each is a text.
#[derive(Debug)]
struct Anything;

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from("1"))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Empty
    }
}

/// Takes at most [`MAX_OUTPUT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_scope<T>(work: impl FnOnce(&Scope<'_>) -> T) -> T {
        let saved = BTreeMap::from([
            ("link".to_owned(), json!("l/1?&").into()),
            ("nothing".to_owned(), json!(null).into()),
            ("address".to_owned(), json!({"id": null, "lines": ["a", null], "floor": 3}).into()),
            ("place".to_owned(), Saved::of(r#"{"street": "x",  "at": [1E3, "é, "]}"#).expect("JSON")),
        ]);
        let row = [("address", "14 Taylor St"), ("name", "<O'Brien> & Søn"), ("dots", ".."), ("empty", "")];
        let context = json!({"campaign": "spring", "none": null});
        work(&Scope::new(row, &saved, &context))
    }

    fn render(source: &str) -> Result<String, TemplateError> {
        with_scope(|scope| Template::new(source)?.render(scope))
    }

    #[test]
    fn values_are_filled_in_as_they_are() {
        for (source, text) in [
            ("no template", "no template"),
            ("{{ row.name }}", "<O'Brien> & Søn"),
            ("{{ row.address | split(' ') | first }}", "14"),
            ("{{ saved.address.floor }} {{ context.campaign }}{{ row.empty }}", "3 spring"),
            ("{{ saved.nothing | default('x') }}{{ context.none | default('y') }}", "xy"),
            ("{% if row.empty %}a{% else %}b{% endif %}", "b"),
            ("{\"a\"}", "{\"a\"}"),
            ("{{ saved.place }}", r#"{"street": "x", "at": [1E3, "é, "]}"#),
            ("{{ saved.place | default('') }}", r#"{"street": "x", "at": [1000.0, "é, "]}"#),
        ] {
            assert_eq!(render(source).as_deref(), Ok(text), "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_and_null_is_not_there() {
        for name in ["row.postcode", "saved.nothing", "saved.address.id", "context.none", "saved.address.lines[1]"] {
            assert_eq!(render(&format!("a {{{{ {name} }}}} b")), Err(TemplateError::Missing(name.to_owned())));
        }
    }

    #[test]
    fn faults_of_the_template_are_found_without_a_row() {
        assert!(matches!(check("{{ row."), Err(TemplateError::Syntax(_))));
        assert_eq!(check("{{ postcode }}"), Err(TemplateError::UnknownName("postcode".to_owned())));
        assert!(matches!(check("{{ row.a | shout }}"), Err(TemplateError::Failed { .. })));
        for fine in ["{{ row.a | split(' ') | last | upper }}", "{{ saved.list[0] }}", "{% set a = 1 %}{{ a }}"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn what_it_needs_of_earlier_steps_is_known_without_a_row() {
        for (source, names) in [
            ("/links/{{ saved.link }}/{{saved.address.lines[0]}}{{ row.link }}", &["address", "link"][..]),
            ("{{ saved.list | first | upper }}", &["list"]),
            ("{{ saved.link | default('') }}", &[]),
            ("{% if saved.link %}{{ saved.link }}{% endif %}", &[]),
            ("saved.link", &[]),
            ("{{ saved", &[]),
        ] {
            assert_eq!(saved_names(source).iter().map(String::as_str).collect::<Vec<_>>(), names, "{source}");
        }
    }

    #[test]
    fn errors_hold_no_value() {
        for source in
            ["{{ row.name | round }}", "{{ row.name.first() }}", "{{ row.name + 1 }}", "{{ row.name | join(3, 4, 5) }}"]
        {
            let message = render(source).expect_err(source).to_string();
            assert!(!message.contains("Brien"), "{message}");
        }
    }

    #[test]
    fn output_and_work_are_bounded() {
        let long = "{% for i in range(9000) %}{{ row.address }}{% endfor %}";
        assert_eq!(render(long), Err(TemplateError::TooLong));
        let busy = "{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}";
        assert_eq!(render(busy), Err(TemplateError::TooMuchWork));
    }

    #[test]
    fn a_value_cannot_leave_its_part_of_a_path() {
        let path = |source: &str| with_scope(|scope| Template::path(source)?.render(scope));
        assert_eq!(path("/a/{{ saved.link }}/b?c=d").as_deref(), Ok("/a/l%2F1%3F%26/b?c=d"));
        assert_eq!(path("/{{ row.name }}").as_deref(), Ok("/%3CO%27Brien%3E%20%26%20S%C3%B8n"));
        assert_eq!(path("/a/{{ row.empty }}"), Err(TemplateError::EmptyPart("row.empty".to_owned())));
        assert_eq!(path("/a/{{ row.none }}"), Err(TemplateError::Missing("row.none".to_owned())));
    }
}
