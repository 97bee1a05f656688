//! Reading a TOML table key by key, with every fault collected under its path instead of ending at the first.

use std::{cell::RefCell, collections::BTreeSet, fmt, rc::Rc, time::Duration};

use toml::{Table, Value};

use super::{secret::Secret, units};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key's path: `dependencies.addresses.rate_per_second`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// What came out of reading a document, besides its values.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// The path of every key that was asked for, whether it was given or left out.
    pub asked: BTreeSet<String>,
}

/// Where variables of the environment come from.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A table being read. What nobody asked for when it is [finished](Section::finish) is a fault.
pub struct Section<'a> {
    path: String,
    table: Table,
    env: Env<'a>,
    findings: Rc<RefCell<Findings>>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub fn root(table: Table, env: Env<'a>, findings: Rc<RefCell<Findings>>) -> Self {
        Self { path: String::new(), table, env, findings, asked: Vec::new() }
    }

    /// The path of a key in here.
    pub fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault of a key in here.
    pub fn fault(&self, key: &str, problem: impl Into<String>) {
        self.findings.borrow_mut().faults.push(Fault { key: self.at(key), problem: problem.into() });
    }

    /// A variable of the environment.
    pub fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.findings.borrow_mut().asked.insert(self.at(key));
        self.table.remove(key)
    }

    fn child(&self, path: String, table: Table) -> Self {
        Self { path, table, env: self.env, findings: self.findings.clone(), asked: Vec::new() }
    }

    /// A table in here; an empty one where it is left out.
    pub fn section(&mut self, key: &'static str) -> Self {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.fault(key, "is a table");
                Table::new()
            }
        };
        self.child(self.at(key), table)
    }

    /// The tables of a table, by name, sorted.
    pub fn named_sections(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let mut outer = self.section(key);
        let mut sections = Vec::new();
        for (name, value) in std::mem::take(&mut outer.table) {
            match value {
                Value::Table(table) => sections.push((name.clone(), self.child(outer.at(&name), table))),
                _ => outer.fault(&name, "is a table"),
            }
        }
        sections
    }

    /// A list of tables; `None` where it is left out.
    pub fn list(&mut self, key: &'static str) -> Option<Vec<Self>> {
        let Value::Array(items) = self.take(key)? else {
            self.fault(key, "is a list of tables");
            return Some(Vec::new());
        };
        let mut sections = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let path = format!("{}[{at}]", self.at(key));
            match item {
                Value::Table(table) => sections.push(self.child(path, table)),
                _ => self.findings.borrow_mut().faults.push(Fault { key: path, problem: "is a table".into() }),
            }
        }
        Some(sections)
    }

    /// A text, with `${NAME}` replaced by the environment's.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => self.expand(key, &text),
            _ => {
                self.fault(key, "is a text");
                None
            }
        }
    }

    /// A text that is a template and no configuration: nothing is replaced in it.
    pub fn template(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            _ => {
                self.fault(key, "is a text");
                None
            }
        }
    }

    /// A text that is never shown.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(flag)) => flag,
            Some(_) => {
                self.fault(key, "is true or false");
                default
            }
        }
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &'static str, default: u32, bounds: std::ops::RangeInclusive<u32>) -> u32 {
        let given = match self.take(key) {
            None => return default,
            Some(Value::Integer(number)) => u32::try_from(number).ok(),
            Some(_) => None,
        };
        match given {
            Some(number) if bounds.contains(&number) => number,
            _ => {
                self.fault(key, format!("is a whole number from {} to {}", bounds.start(), bounds.end()));
                default
            }
        }
    }

    /// A number above zero, fractions allowed.
    pub fn positive(&mut self, key: &'static str) -> Option<f64> {
        let number = match self.take(key)? {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => f64::NAN,
        };
        if number.is_finite() && number > 0.0 {
            return Some(number);
        }
        self.fault(key, "is a number above 0");
        None
    }

    /// A duration; `None` where it is left out.
    pub fn optional_duration(&mut self, key: &'static str) -> Option<Duration> {
        let parsed = units::parse_duration(&self.text(key)?);
        parsed.map_err(|problem| self.fault(key, problem)).ok()
    }

    /// A duration.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.optional_duration(key).unwrap_or(default)
    }

    /// A size in bytes; `None` where it is left out.
    pub fn optional_size(&mut self, key: &'static str) -> Option<u64> {
        let parsed = match self.take(key)? {
            Value::Integer(bytes) => u64::try_from(bytes).map_err(|_| "is not below 0".to_owned()),
            Value::String(text) => units::parse_size(&text),
            _ => Err("is a size like \"1GB\"".to_owned()),
        };
        parsed.map_err(|problem| self.fault(key, problem)).ok()
    }

    /// A size in bytes.
    pub fn size(&mut self, key: &'static str, default: u64) -> u64 {
        self.optional_size(key).unwrap_or(default)
    }

    /// A list of texts; empty where it is left out.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => Vec::from([Value::Boolean(false)]),
        };
        let texts: Option<Vec<String>> = items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.unwrap_or_else(|| {
            self.fault(key, "is a list of texts");
            Vec::new()
        })
    }

    /// A table of texts; with `${NAME}` replaced where `expand` says so.
    pub fn text_map(&mut self, key: &'static str, expand: bool) -> std::collections::BTreeMap<String, String> {
        let mut inner = self.section(key);
        let mut texts = std::collections::BTreeMap::new();
        for (name, value) in std::mem::take(&mut inner.table) {
            match value {
                Value::String(text) if expand => texts.extend(inner.expand(&name, &text).map(|text| (name, text))),
                Value::String(text) => drop(texts.insert(name, text)),
                _ => inner.fault(&name, "is a text"),
            }
        }
        texts
    }

    /// Any value, as JSON.
    pub fn json(&mut self, key: &'static str) -> Option<serde_json::Value> {
        let value = self.take(key)?;
        serde_json::to_value(value).map_err(|_| self.fault(key, "cannot be written as JSON")).ok()
    }

    /// A whole number, or this word for none, which is also what is meant where it is left out.
    pub fn integer_or(&mut self, key: &'static str, word: &str, bounds: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let number = match self.take(key)? {
            Value::String(text) if text == word => return None,
            Value::Integer(number) => u32::try_from(number).ok().filter(|number| bounds.contains(number)),
            _ => None,
        };
        if number.is_none() {
            self.fault(key, format!("is \"{word}\", or a whole number from {} to {}", bounds.start(), bounds.end()));
        }
        number
    }

    /// One of the words that `T` knows.
    pub fn word<T: serde::de::DeserializeOwned>(&mut self, key: &'static str, words: &str) -> Option<T> {
        let word = self.text(key)?;
        let parsed = serde_json::from_value(serde_json::Value::String(word));
        parsed.map_err(|_| self.fault(key, format!("is one of {words}"))).ok()
    }

    /// What nobody asked for is a fault.
    pub fn finish(self) {
        for key in self.table.keys() {
            let near = self.asked.iter().find(|asked| distance(asked, key) <= 2);
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            self.fault(key, format!("is not known{hint}"));
        }
    }

    /// Replaces `${NAME}` by the environment's; `$${` stands for `${`.
    fn expand(&self, key: &str, text: &str) -> Option<String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = after;
                continue;
            }
            expanded.push_str(before);
            let Some(end) = after.find('}') else {
                self.fault(key, "has a `${` without its `}`");
                return None;
            };
            let name = &after[..end];
            let Some(value) = self.env(name) else {
                self.fault(key, format!("asks for ${{{name}}}, and the environment has no {name}"));
                return None;
            };
            expanded.push_str(&value);
            rest = &after[end + 1..];
        }
        expanded.push_str(rest);
        Some(expanded)
    }
}

/// How many characters one has to change, add or take away to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.chars().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}
