//! The short way: most templates are texts with names in them, like `/links/{{ saved.link }}`, and most values are
//! texts too. Those are put together here, without the values and the machine that the whole language needs.
//! Whatever else a template or a value is takes the long way, by minijinja; what both can fill they fill alike.

use percent_encoding::utf8_percent_encode;

use super::{MAX_OUTPUT, RESERVED, ROOTS, Scope};

/// A template in which nothing is filled in but members of `row`, `saved` and `context`.
pub(super) struct Short {
    parts: Vec<Part>,
    /// Whether it is a path: values are percent-encoded and must not be empty.
    is_path: bool,
}

enum Part {
    Text(String),
    Name { root: &'static str, member: String },
}

impl Short {
    /// `None` where a template says more than that.
    pub(super) fn of(source: &str, is_path: bool) -> Option<Self> {
        // In a template the last line break does not count.
        if source.ends_with(['\n', '\r']) {
            return None;
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((text, behind)) = rest.split_once("{{") {
            let (expression, after) = behind.split_once("}}")?;
            parts.extend([plain(text)?, name(expression)?]);
            rest = after;
        }
        parts.push(plain(rest)?);
        Some(Self { parts, is_path })
    }

    /// The name that is all there is to it.
    pub(super) fn only_name(&self) -> Option<(&'static str, &str)> {
        match &self.parts[..] {
            [Part::Text(before), Part::Name { root, member }, Part::Text(after)]
                if before.is_empty() && after.is_empty() =>
            {
                Some((root, member))
            }
            _ => None,
        }
    }

    /// The text for these values; `None` where one of them is no text or not there, or the whole is not allowed.
    pub(super) fn fill(&self, scope: &Scope<'_>) -> Option<String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Name { root, member } => match &*scope.text(root, member)? {
                    "" if self.is_path => return None,
                    value if self.is_path => filled.extend(utf8_percent_encode(value, RESERVED)),
                    value => filled.push_str(value),
                },
            }
        }
        (filled.len() <= MAX_OUTPUT).then_some(filled)
    }
}

/// A text without the beginning of anything.
fn plain(text: &str) -> Option<Part> {
    (!text.contains('{')).then(|| Part::Text(text.to_owned()))
}

fn name(expression: &str) -> Option<Part> {
    let (root, member) = expression.trim_matches(' ').split_once('.')?;
    let root = ROOTS.into_iter().find(|known| *known == root)?;
    let is_name = member.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && member.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    is_name.then(|| Part::Name { root, member: member.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::template::{Compiled, Template, told};

    /// Pieces of templates: names that are there and that are not, other expressions, texts with what templates are
    /// made of in them.
    fn piece() -> impl Strategy<Value = String> {
        let names = ["row.a", "row.b", "row.none", "saved.a", "saved.n", "context.a", "context.deep", "row", "row.if"];
        prop_oneof![
            4 => prop::sample::select(names.to_vec()).prop_map(|name| format!("{{{{ {name} }}}}")),
            1 => prop::sample::select(vec![
                "{{row.a}}", "{{- row.a -}}", "{{ row.a | upper }}", "{{ row['a'] }}", "{{ saved.a.b }}", "{# row.a #}",
                "{% if row.a %}x{% endif %}", "{{ '}}' }}", "{{ row . a }}", "{{\trow.a\n}}", "{{ row.a }", "{{ 1 }}",
            ]).prop_map(str::to_owned),
            3 => "[ -~\n]{0,6}",
            1 => "\\PC{0,4}",
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => "\\PC{0,8}".prop_map(Value::from),
            1 => prop::sample::select(vec![json!(null), json!(7), json!(1.5), json!(true), json!(["x"]), json!({"b": "y", "a": [1, "z"]})]),
        ]
    }

    proptest! {
        #[test]
        fn both_ways_fill_alike(
            pieces in prop::collection::vec(piece(), 0..5),
            (a, b) in ("\\PC{0,8}", "[a-z/?%&\"\n ]{0,3}"),
            (saved, context) in (value(), value()),
        ) {
            let source = pieces.concat();
            let saved = BTreeMap::from([("a".to_owned(), saved.into()), ("n".to_owned(), json!(-3).into())]);
            let context = json!({"a": context, "deep": {"a": "b"}});
            let scope = Scope::new([("a", a.as_str()), ("b", b.as_str()), ("if", "x")], &saved, &context);
            for compiled in [Template::new(&source), Template::path(&source)].into_iter().flatten() {
                if let Template(Compiled::Template { long, .. }) = &compiled {
                    let long = long.fill(scope.whole()).map_err(|error| told(&error));
                    prop_assert_eq!(compiled.render(&scope), long);
                }
            }
        }
    }

    #[test]
    fn templates_of_names_go_the_short_way_and_others_do_not() {
        for source in ["{{ row.email }}", "/a/{{saved.link}}/{{ context.x_1 }}?b", "é {{ row.a }} }}"] {
            assert!(Short::of(source, false).is_some(), "{source}");
        }
        for source in
            ["{{ row.a | first }}", "{{ row.a.b }}", "{{- row.a }}", "{% if row.a %}", "{{ row }}", "{{ row.a }}\n"]
        {
            assert!(Short::of(source, false).is_none(), "{source}");
        }
    }
}
