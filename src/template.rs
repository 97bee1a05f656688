//! Templates of requests: strict, compiled once, rendered for every row.
//!
//! minijinja does the work. A name that is not there is an error unless the `default` filter is used, nothing is
//! escaped for HTML, and there is nothing that a template could read besides what it is given.

use minijinja::{Environment, ErrorKind, Output, State, UndefinedBehavior, Value};

/// The largest text that a template may come to.
const LARGEST_OUTPUT: usize = 1024 * 1024;
/// Steps of minijinja's machine that one rendering may take.
const FUEL: u64 = 100_000;
const NAME: &str = "template";

/// What is wrong with a template, or with what it was given. Holds no value of the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// It asks for a name that is not there.
    #[error("it asks for something that is not there (use the `default` filter where that is fine)")]
    Missing,
    /// It came to more than [`LARGEST_OUTPUT`].
    #[error("it comes to more than {LARGEST_OUTPUT} bytes")]
    TooLarge,
    /// A filter or function did not take its value, or it ran for too long.
    #[error("it cannot be rendered: {0}")]
    Render(String),
}

/// A compiled template.
pub struct Template(Environment<'static>);

/// Whether a text is a template that can be compiled.
pub fn check(source: &str) -> Result<(), TemplateError> {
    Template::text(source).map(drop)
}

impl Template {
    /// A template whose values stand as they are.
    pub fn text(source: &str) -> Result<Self, TemplateError> {
        Self::compile(source, Environment::new())
    }

    /// A template of a URL's path: each value is percent-encoded, so that none can add a segment or a query.
    pub fn path(source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_formatter(write_encoded);
        Self::compile(source, environment)
    }

    fn compile(source: &str, mut environment: Environment<'static>) -> Result<Self, TemplateError> {
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TemplateError::Syntax(error.detail().unwrap_or("it is not a template").to_owned()))?;
        Ok(Self(environment))
    }

    /// The text for these values.
    pub fn render(&self, values: &Value) -> Result<String, TemplateError> {
        let rendered = self.0.get_template(NAME).and_then(|template| template.render(values.clone()));
        match rendered {
            Ok(text) if text.len() > LARGEST_OUTPUT => Err(TemplateError::TooLarge),
            Ok(text) => Ok(text),
            Err(error) if error.kind() == ErrorKind::UndefinedError => Err(TemplateError::Missing),
            // The kind is a fixed phrase; the detail could quote a value.
            Err(error) => Err(TemplateError::Render(error.kind().to_string())),
        }
    }
}

fn write_encoded(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let text = value.to_string();
    out.write_str(&percent_encode(&text)).map_err(|_| ErrorKind::WriteFailure.into())
}

/// Everything but the unreserved characters of RFC 3986, section 2.3.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// JSON as what templates are given.
pub fn values(json: impl serde::Serialize) -> Value {
    Value::from(minijinja::value::Serde(json))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, given: serde_json::Value) -> Result<String, TemplateError> {
        Template::text(source)?.render(&values(given))
    }

    #[test]
    fn fills_in_names_and_filters() {
        let values = json!({ "row": { "address": "14 Taylor St", "phone": "" }, "saved": { "n": 3 } });
        assert_eq!(render("{{ row.address | split(' ') | first }}", values.clone()), Ok("14".into()));
        assert_eq!(render("<{{ row.phone }}{{ saved.n }}>", values.clone()), Ok("<3>".into()));
        assert_eq!(render("{{ row.email | default('none') }}", values), Ok("none".into()));
    }

    #[test]
    fn what_is_not_there_is_an_error_that_tells_no_value() {
        let values = json!({ "row": { "email": "private@x.example" } });
        assert_eq!(render("{{ row.mail }}", values.clone()), Err(TemplateError::Missing));
        assert_eq!(render("{{ saved.link }}", values.clone()), Err(TemplateError::Missing));
        let error = render("{{ row.email | abs }}", values).unwrap_err().to_string();
        assert!(!error.contains("private"), "{error}");
        assert!(matches!(check("{{ row.x"), Err(TemplateError::Syntax(_))));
        assert!(matches!(
            render("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", json!({})),
            Err(TemplateError::Render(_))
        ));
    }

    #[test]
    fn a_value_cannot_change_a_path() {
        let path = Template::path("/users/{{ row.id }}/x").expect("valid");
        let rendered = path.render(&values(json!({ "row": { "id": "../a?b=c#d é" } })));
        assert_eq!(rendered, Ok("/users/..%2Fa%3Fb%3Dc%23d%20%C3%A9/x".into()));
    }
}
