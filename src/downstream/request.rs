//! What a step sends for a row: its templates, filled.
//!
//! Values are data wherever they go: in the path they are percent-encoded and cannot add a segment or a query, in the
//! query they are encoded, in a header they cannot add a line, in the body they are JSON strings.

use std::collections::BTreeMap;

use hyper::http::{HeaderName, HeaderValue};
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    model::{
        FailureCode, Step, StepFailure,
        workflow::{Method, Repeat},
    },
    template::{RESERVED, Scope, Template, TemplateError},
};

/// The most bytes of what stands behind the base URL, query and all. Servers and proxies take between 8 and 64 KiB.
pub const MAX_TARGET: usize = 16 * 1024;
/// The most bytes of a step's own headers, as they are written: names, values, and four bytes for each line.
pub const MAX_HEADERS: usize = 32 * 1024;

/// A step's templates, compiled once.
pub struct Plan {
    /// The step's name.
    pub step: String,
    /// What to keep of its answer: name -> JSON Pointer.
    pub save: BTreeMap<String, String>,
    /// Whether it may be sent again.
    pub repeat: Repeat,
    method: Method,
    path: Template,
    /// The names are encoded already.
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Body>,
}

/// A part of a step that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Its template is wrong.
    #[error("{part}: {error}")]
    Template {
        /// `path`, `query.link`, `headers.X-Trace`, `json/address/id`.
        part: String,
        /// What is wrong with it.
        error: TemplateError,
    },
    /// It names a header that HTTP cannot have.
    #[error("headers: `{0}` is no name of a header")]
    HeaderName(String),
}

/// A step's JSON body. Every text in it is a template; one that is a saved value and
/// nothing else becomes that value; names and other values stand as they are, and are JSON already.
enum Body {
    Text(Template),
    Fixed(String),
    List(Vec<Body>),
    Members(Vec<(String, Body)>),
}

/// A filled request, without the dependency's base URL and headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Filled {
    /// The request's method.
    pub method: Method,
    /// Encoded; begins with `/`.
    pub path: String,
    /// Encoded; empty where there is none.
    pub query: String,
    /// The step's own headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON.
    pub body: Option<Vec<u8>>,
}

/// Nothing of it is shown: it holds cells.
impl std::fmt::Debug for Filled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filled").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Plan {
    /// Compiles what a step sends.
    pub fn new(step: &Step) -> Result<Self, PlanError> {
        let query = step.query.iter().map(|(name, source)| {
            let encoded = utf8_percent_encode(name, RESERVED).to_string();
            Ok((encoded, part(&format!("query.{name}"), Template::new(source))?))
        });
        let headers = step.headers.iter().map(|(name, source)| {
            let parsed = HeaderName::try_from(name).map_err(|_| PlanError::HeaderName(name.clone()))?;
            Ok((parsed, part(&format!("headers.{name}"), Template::new(source))?))
        });
        Ok(Self {
            step: step.name.clone(),
            save: step.save.clone(),
            repeat: step.repeat,
            method: step.method,
            path: part("path", Template::path(&step.path))?,
            query: query.collect::<Result<_, PlanError>>()?,
            headers: headers.collect::<Result<_, PlanError>>()?,
            body: step.json.as_ref().map(|json| Body::new(json, "json")).transpose()?,
        })
    }

    /// The request for these values.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<Filled, StepFailure> {
        self.try_fill(scope).map_err(|fault| StepFailure {
            code: FailureCode::Template,
            http_status: None,
            message: format!("the request of step `{}` cannot be made: {fault}", self.step),
            body: None,
        })
    }

    fn try_fill(&self, scope: &Scope<'_>) -> Result<Filled, String> {
        let fault = |part: &str, error: TemplateError| format!("{part}: {error}");
        let path = self.path.render(scope).map_err(|error| fault("path", error))?;
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err("path: a value would lead out of it".to_owned());
        }
        let mut query = String::new();
        for (name, template) in &self.query {
            let value = template.render(scope).map_err(|error| fault(&format!("query.{name}"), error))?;
            let separator = if query.is_empty() { "" } else { "&" };
            query.extend([separator, name, "="]);
            query.extend(utf8_percent_encode(&value, RESERVED));
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            let text = template.render(scope).map_err(|error| fault(&format!("headers.{name}"), error))?;
            let value = HeaderValue::from_bytes(text.as_bytes())
                .map_err(|_| format!("headers.{name}: a value has a line break or another control character in it"))?;
            headers.push((name.clone(), value));
        }
        let body = self.body.as_ref().map(|body| body.fill(scope)).transpose().map_err(|error| fault("json", error))?;
        let filled = Filled { method: self.method, path, query, headers, body };
        filled.check_sizes()?;
        Ok(filled)
    }
}

fn part(name: &str, template: Result<Template, TemplateError>) -> Result<Template, PlanError> {
    template.map_err(|error| PlanError::Template { part: name.to_owned(), error })
}

impl Body {
    fn new(json: &Value, place: &str) -> Result<Self, PlanError> {
        Ok(match json {
            Value::String(source) => Self::Text(part(place, Template::new(source))?),
            Value::Array(items) => {
                let compile = |(index, item)| Self::new(item, &format!("{place}/{index}"));
                Self::List(items.iter().enumerate().map(compile).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let compile = |(name, member): (&String, &Value)| {
                    Ok((as_json(name), Self::new(member, &format!("{place}/{name}"))?))
                };
                Self::Members(members.iter().map(compile).collect::<Result<_, PlanError>>()?)
            }
            fixed => Self::Fixed(fixed.to_string()),
        })
    }

    fn fill(&self, scope: &Scope<'_>) -> Result<Vec<u8>, TemplateError> {
        let mut json = String::new();
        self.write(scope, &mut json)?;
        Ok(json.into_bytes())
    }

    fn write(&self, scope: &Scope<'_>, json: &mut String) -> Result<(), TemplateError> {
        match self {
            // One value and nothing else goes on as it came, of its own type.
            Self::Text(template) => match template.value(scope) {
                Some(value) => json.push_str(&value),
                None => json.push_str(&as_json(&template.render(scope)?)),
            },
            Self::Fixed(value) => json.push_str(value),
            Self::List(items) => {
                json.push('[');
                for (place, item) in items.iter().enumerate() {
                    json.push_str(if place == 0 { "" } else { "," });
                    item.write(scope, json)?;
                }
                json.push(']');
            }
            Self::Members(members) => {
                json.push('{');
                for (place, (name, member)) in members.iter().enumerate() {
                    json.extend([if place == 0 { "" } else { "," }, name, ":"]);
                    member.write(scope, json)?;
                }
                json.push('}');
            }
        }
        Ok(())
    }
}

fn as_json(text: &str) -> String {
    Value::from(text).to_string()
}

impl Filled {
    /// The same for the same request, and another for any other: SHA-256 over method, path, query, the step's headers
    /// and body, each with its length in front, so that no two requests read the same. The dependency's base URL and
    /// headers are not in it: a new host name or a new token does not make another request.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut frame = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        frame(b"dripfeed request 1");
        frame(self.method.as_str().as_bytes());
        frame(self.path.as_bytes());
        frame(self.query.as_bytes());
        frame(&(self.headers.len() as u64).to_be_bytes());
        for (name, value) in &self.headers {
            frame(name.as_str().as_bytes());
            frame(value.as_bytes());
        }
        // One frame more where there is a body, so that an empty one is not the same as none.
        if let Some(body) = &self.body {
            frame(body);
        }
        hash.finalize().into()
    }

    /// A line or a header that is too long never leaves: what would come of it is the row's fault, and would be taken for
    /// the API's.
    fn check_sizes(&self) -> Result<(), String> {
        // The separator between path and query.
        let target = self.path.len() + self.query.len() + usize::from(!self.query.is_empty());
        if target > MAX_TARGET {
            return Err(format!("path and query come to {target} bytes, and {MAX_TARGET} is the most"));
        }
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        match headers.sum::<usize>() {
            ..=MAX_HEADERS => Ok(()),
            bytes => Err(format!("headers come to {bytes} bytes, and {MAX_HEADERS} is the most")),
        }
    }

    /// What stands behind the base URL.
    pub fn target(&self) -> String {
        match (self.query.as_str(), self.path.contains('?')) {
            ("", _) => self.path.clone(),
            (query, false) => format!("{}?{query}", self.path),
            (query, true) => format!("{}&{query}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step() -> Step {
        Step {
            name: "invite-create".to_owned(),
            dependency: "invites".to_owned(),
            method: Method::Post,
            path: "/invites/{{ row.email }}".to_owned(),
            query: BTreeMap::from([("a b".to_owned(), "{{ row.name }}".to_owned())]),
            headers: BTreeMap::from([("X-Name".to_owned(), "{{ row.name }}".to_owned())]),
            json: Some(json!({"name": "{{ row.name }}", "n": 3, "list": [null, "{{ row.email }}"]})),
            save: BTreeMap::new(),
            repeat: Repeat::IdempotencyKey,
            result: None,
        }
    }

    fn fill(step: &Step, email: &str, name: &str) -> Result<Filled, StepFailure> {
        let row = [("email", email), ("name", name)];
        Plan::new(step).expect("a good step").fill(&Scope::new(row, &BTreeMap::new(), &json!({})))
    }

    #[test]
    fn values_stay_data_wherever_they_go() {
        let filled = fill(&step(), "a/b?c@d", "x&y=\"z\" é").expect("filled");
        assert_eq!(filled.target(), "/invites/a%2Fb%3Fc%40d?a%20b=x%26y%3D%22z%22%20%C3%A9");
        assert_eq!(filled.headers[0].1.as_bytes(), "x&y=\"z\" é".as_bytes());
        let body: Value = serde_json::from_slice(filled.body.as_deref().unwrap_or_default()).expect("JSON");
        assert_eq!(body, json!({"name": "x&y=\"z\" é", "n": 3, "list": [null, "a/b?c@d"]}));
    }

    #[test]
    fn values_that_would_break_out_are_refused_without_being_told() {
        for (email, name) in [("..", "n"), (".", "n"), ("", "n"), ("e", "n\r\nX-Evil: 1"), ("e", "n\0")] {
            let failure = fill(&step(), email, name).expect_err("refused");
            assert_eq!(failure.code, FailureCode::Template);
            assert!(!failure.message.contains("Evil"), "{}", failure.message);
        }
    }

    #[test]
    fn lines_and_headers_that_no_server_takes_are_refused_by_their_bytes() {
        let only = |query: &str, header: &str| Step {
            path: "/".to_owned(),
            query: BTreeMap::from([("q".to_owned(), query.to_owned())]),
            headers: BTreeMap::from([("x".to_owned(), header.to_owned())]),
            json: None,
            ..step()
        };
        let (query, header) = (only("{{ row.name }}", ""), only("", "{{ row.name }}"));
        // "/?q=" and "x: \r\n"; a space takes three bytes in a query, and one in a header.
        let (in_query, in_header) = (MAX_TARGET - 4, MAX_HEADERS - 5);
        let spaces = |count: usize| " ".repeat(count);
        for (step, fits, too_long) in [
            (&query, "n".repeat(in_query), "n".repeat(in_query + 1)),
            (&query, spaces(in_query / 3), spaces(in_query / 3 + 1)),
            (&header, "n".repeat(in_header), "n".repeat(in_header + 1)),
        ] {
            assert!(fill(step, "e", &fits).is_ok(), "{}", fits.len());
            let failure = fill(step, "e", &too_long).expect_err("too long");
            assert_eq!(failure.code, FailureCode::Template);
            assert!(failure.message.contains("is the most"), "{}", failure.message);
        }
    }

    #[test]
    fn faults_of_a_step_name_their_part() {
        let mut wrong = step();
        wrong.json = Some(json!({"address": {"id": "{{ id }}"}}));
        let error = Plan::new(&wrong).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("json/address/id: `id` is not a name"), "{error}");
        wrong.headers = BTreeMap::from([("a b".to_owned(), String::new())]);
        assert_eq!(Plan::new(&wrong).err(), Some(PlanError::HeaderName("a b".to_owned())));
    }

    #[test]
    fn the_fingerprint_tells_requests_apart_and_nothing_else() {
        let base = fill(&step(), "e", "n").expect("filled");
        assert_eq!(base.fingerprint(), fill(&step(), "e", "n").expect("filled").fingerprint());
        let others = [
            Filled { method: Method::Put, ..base.clone() },
            Filled { path: "/invites/".to_owned(), query: "ea=n".to_owned(), ..base.clone() },
            Filled { query: String::new(), ..base.clone() },
            Filled { headers: Vec::new(), ..base.clone() },
            Filled { body: None, ..base.clone() },
            Filled { body: Some(Vec::new()), ..base.clone() },
        ];
        let prints: std::collections::BTreeSet<_> = others.iter().chain([&base]).map(Filled::fingerprint).collect();
        assert_eq!(prints.len(), others.len() + 1);
    }
}
