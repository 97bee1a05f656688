//! The path of a route: literal segments, and places for values, which are spelled in capitals.

use std::borrow::Cow;

/// `/v2/batches/ID/rows/NUMBER`, as it stands in metrics and logs too.
#[derive(Debug, Clone)]
pub struct Path {
    /// What metrics and logs call it.
    pub label: &'static str,
    text: Cow<'static, str>,
    /// Whether capitals stand for values.
    has_values: bool,
}

impl From<&'static str> for Path {
    fn from(text: &'static str) -> Self {
        Self { label: text, text: Cow::Borrowed(text), has_values: true }
    }
}

impl Path {
    /// A path out of the configuration, in which capitals are capitals. Its label is the same for all of its kind.
    pub fn configured(text: String, label: &'static str) -> Self {
        Self { label, text: Cow::Owned(text), has_values: false }
    }

    /// The names of its values.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.text.split('/').filter(|segment| self.is_value(segment)).map(str::to_lowercase)
    }

    /// As OpenAPI writes it: `/v2/batches/{id}/rows/{number}`.
    pub fn described(&self) -> String {
        let described = |segment| match self.is_value(segment) {
            true => format!("{{{}}}", segment.to_lowercase()),
            false => segment.to_owned(),
        };
        self.text.split('/').map(described).collect::<Vec<_>>().join("/")
    }

    /// The values that this path has in the places of ours, where it is ours. A `/` more at its end is none the worse.
    pub fn values<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let (mut own, mut other) = (self.text.split('/'), path.split('/'));
        let mut values = Vec::new();
        loop {
            match (own.next(), other.next()) {
                (None, None) => return Some(values),
                (Some(own), Some(value)) if self.is_value(own) && !value.is_empty() => values.push(value),
                (Some(own), Some(other)) if own == other => {}
                _ => return None,
            }
        }
    }

    fn is_value(&self, segment: &str) -> bool {
        self.has_values && !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_with_a_value_in_each_of_its_places() {
        let path = Path::from("/v2/batches/ID/rows/NUMBER");
        assert_eq!(path.values("/v2/batches/a/rows/7"), Some(vec!["a", "7"]));
        assert_eq!(path.values("/v2/batches/a/rows/7/"), Some(vec!["a", "7"]));
        for other in
            ["/v2/batches/a/rows", "/v2/batches//rows/7", "/v2/batches/a/rows/7/8", "v2/batches/a/rows/7", "", "/"]
        {
            assert_eq!(path.values(other), None, "{other}");
        }
        assert_eq!(path.described(), "/v2/batches/{id}/rows/{number}");
        assert_eq!(path.names().collect::<Vec<_>>(), ["id", "number"]);
    }

    #[test]
    fn capitals_of_a_configured_path_are_no_places() {
        let path = Path::configured("/v2/client/CRM".to_owned(), "upload");
        assert_eq!((path.values("/v2/client/CRM"), path.values("/v2/client/x")), (Some(vec![]), None));
        assert_eq!((path.described().as_str(), path.names().count()), ("/v2/client/CRM", 0));
    }
}
