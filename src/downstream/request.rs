//! A step rendered for a row: what will be sent, and its fingerprint.

use minijinja::Value;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{
    model::{FailureCode, Step, StepFailure, workflow::Method},
    template::{Template, TemplateError, percent_encode},
};

/// A request that is ready to leave, without the dependency's own headers.
#[derive(Clone)]
pub struct Request {
    /// Which step's answer is awaited.
    pub(super) step: (String, usize),
    pub(super) method: Method,
    pub(super) path_and_query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    /// A digest of everything that is sent and comes from the row: equal for the same request, and for no other. The
    /// dependency's own headers, which hold tokens that change, are not part of it.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.method.as_str().as_bytes());
        part(self.path_and_query.as_bytes());
        for (name, value) in &self.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(self.body.as_deref().unwrap_or_default());
        hash.finalize().into()
    }
}

/// A step with its templates compiled.
pub(super) struct CompiledStep {
    pub(super) step: Step,
    pub(super) dependency: usize,
    path: Template,
    query: Vec<(String, Template)>,
    headers: Vec<(String, Template)>,
    body: Option<CompiledJson>,
}

/// A JSON value in which every text is a template.
enum CompiledJson {
    Plain(Json),
    Text(Template),
    Array(Vec<CompiledJson>),
    Object(Vec<(String, CompiledJson)>),
}

impl CompiledStep {
    pub(super) fn compile(step: &Step, dependency: usize) -> Result<Self, TemplateError> {
        let all = |templates: &std::collections::BTreeMap<String, String>| {
            let compiled = templates.iter().map(|(name, source)| Ok((name.clone(), Template::text(source)?)));
            compiled.collect::<Result<Vec<_>, TemplateError>>()
        };
        Ok(Self {
            dependency,
            path: Template::path(&step.path)?,
            query: all(&step.query)?,
            headers: all(&step.headers)?,
            body: step.json.as_ref().map(CompiledJson::compile).transpose()?,
            step: step.clone(),
        })
    }

    pub(super) fn render(&self, workflow: &str, index: usize, values: &Value) -> Result<Request, StepFailure> {
        self.try_render(workflow, index, values).map_err(|error| StepFailure {
            code: FailureCode::Template,
            http_status: None,
            message: format!("The template of {} did not work out: {error}.", self.step.name),
            body: None,
        })
    }

    fn try_render(&self, workflow: &str, index: usize, values: &Value) -> Result<Request, TemplateError> {
        let mut path_and_query = self.path.render(values)?;
        for (at, (name, template)) in self.query.iter().enumerate() {
            path_and_query.push(if at == 0 { '?' } else { '&' });
            path_and_query.push_str(&percent_encode(name));
            path_and_query.push('=');
            path_and_query.push_str(&percent_encode(&template.render(values)?));
        }
        let headers = self.headers.iter().map(|(name, template)| Ok((name.clone(), template.render(values)?)));
        let body = self.body.as_ref().map(|body| body.render(values)).transpose()?;
        Ok(Request {
            step: (workflow.to_owned(), index),
            method: self.step.method,
            path_and_query,
            headers: headers.collect::<Result<_, TemplateError>>()?,
            body: body.map(|json| json.to_string().into_bytes()),
        })
    }
}

impl CompiledJson {
    fn compile(json: &Json) -> Result<Self, TemplateError> {
        Ok(match json {
            Json::String(source) => Self::Text(Template::text(source)?),
            Json::Array(items) => Self::Array(items.iter().map(Self::compile).collect::<Result<_, _>>()?),
            Json::Object(members) => {
                let members = members.iter().map(|(name, member)| Ok((name.clone(), Self::compile(member)?)));
                Self::Object(members.collect::<Result<_, TemplateError>>()?)
            }
            plain => Self::Plain(plain.clone()),
        })
    }

    fn render(&self, values: &Value) -> Result<Json, TemplateError> {
        Ok(match self {
            Self::Plain(plain) => plain.clone(),
            Self::Text(template) => Json::String(template.render(values)?),
            Self::Array(items) => Json::Array(items.iter().map(|item| item.render(values)).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let members = members.iter().map(|(name, member)| Ok((name.clone(), member.render(values)?)));
                Json::Object(members.collect::<Result<_, TemplateError>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{model::workflow::Repeat, template};

    fn step() -> Step {
        Step {
            name: "look-up".into(),
            dependency: "addresses".into(),
            method: Method::Post,
            path: "/p/{{ row.postcode }}".into(),
            query: BTreeMap::from([("q".into(), "{{ row.name }}".into())]),
            headers: BTreeMap::new(),
            json: Some(json!({ "name": "{{ row.name }}", "list": ["{{ row.postcode }}", 1, true] })),
            save: BTreeMap::new(),
            repeat: Repeat::IdempotencyKey,
            result: None,
        }
    }

    fn render(name: &str) -> Request {
        let compiled = CompiledStep::compile(&step(), 0).expect("valid templates");
        let values = template::values(json!({ "row": { "postcode": "AB1 2CD", "name": name } }));
        compiled.render("w", 0, &values).expect("everything is there")
    }

    #[test]
    fn path_query_and_body_are_filled_in_and_encoded() {
        let request = render("a&b=c \"d\"");
        assert_eq!(request.path_and_query, "/p/AB1%202CD?q=a%26b%3Dc%20%22d%22");
        let body: Json = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        assert_eq!(body, json!({ "name": "a&b=c \"d\"", "list": ["AB1 2CD", 1, true] }));
    }

    #[test]
    fn the_fingerprint_is_of_what_is_sent() {
        assert_eq!(render("x").fingerprint(), render("x").fingerprint());
        assert_ne!(render("x").fingerprint(), render("y").fingerprint());
    }

    #[test]
    fn what_is_missing_fails_the_step_and_shows_no_value() {
        let compiled = CompiledStep::compile(&step(), 0).expect("valid templates");
        let values = template::values(json!({ "row": { "name": "private" } }));
        let failure = compiled.render("w", 0, &values).err().expect("no postcode");
        assert_eq!(failure.code, FailureCode::Template);
        assert!(failure.message.contains("look-up") && !failure.message.contains("private"), "{}", failure.message);
    }
}
