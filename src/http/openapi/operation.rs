//! What is declared of a call of the API, and how the document tells it. Its handler makes it a [`Route`](super::super::routes::Route).

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use warp::http::Method;

use super::super::{problem::ProblemCode, routes::Path, small_json::JsonBody};
use crate::model::Scope;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nobody has to say who they are.
    Anybody,
    /// A client whose key has this scope.
    Client(Scope),
    /// A client whose key has this scope for what is its own, an operator for everything.
    ClientOrOperator(Scope),
    /// Whoever has any key or token.
    Known,
    /// An operator with a token.
    Operator,
    /// An operator with the role `admin`.
    Admin,
    /// An operator, or whoever holds the dispatch token.
    Dispatcher,
    /// An operator, or whoever holds the metrics token.
    Watcher,
}

impl By {
    /// What a client's key has to be good for; `None`: it is not for clients.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Client(scope) | Self::ClientOrOperator(scope) => Some(scope),
            _ => None,
        }
    }

    fn told(self) -> String {
        match self {
            Self::Anybody => "Needs no key.".to_owned(),
            Self::Client(scope) => format!("For a client, with the scope `{}`.", scope.as_str()),
            Self::ClientOrOperator(scope) => {
                format!("For the client that owns it, with the scope `{}`, and for operators.", scope.as_str())
            }
            Self::Known => "For clients and operators.".to_owned(),
            Self::Operator => "For operators.".to_owned(),
            Self::Admin => "For operators with the role `admin`.".to_owned(),
            Self::Dispatcher => "For operators, and for the dispatch token.".to_owned(),
            Self::Watcher => "For operators, and for the metrics token.".to_owned(),
        }
    }
}

/// Makes the schema of a type. A type's schema is asked for when the document is put together.
type SchemaOf = fn(&mut SchemaGenerator) -> Value;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// The schema of what a handler reads: what it may leave out is not required of it, unlike of what it shows.
fn read_schema_of<T: JsonSchema>(_: &mut SchemaGenerator) -> Value {
    let mut inline =
        super::settings().with(|settings| settings.inline_subschemas = true).for_deserialize().into_generator();
    inline.subschema_for::<T>().to_value()
}

struct Content {
    media_type: &'static str,
    schema: Option<SchemaOf>,
    example: Option<String>,
}

struct Success {
    status: u16,
    told: &'static str,
    content: Option<Content>,
    headers: &'static [(&'static str, &'static str)],
}

/// A call: its method, what it takes, what it answers.
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: Path,
    /// Who may make it.
    pub by: By,
    id: String,
    summary: &'static str,
    query: Option<SchemaOf>,
    headers: Vec<(&'static str, &'static str)>,
    bodies: Vec<(&'static str, Value, Option<SchemaOf>)>,
    body_required: bool,
    successes: Vec<Success>,
    problems: Vec<ProblemCode>,
}

impl Operation {
    /// A call of this method and path. `id` is its name for programs, `summary` one sentence for people.
    pub fn new(method: Method, path: impl Into<Path>, id: impl Into<String>, by: By, summary: &'static str) -> Self {
        let mut problems = vec![ProblemCode::BadRequest, ProblemCode::RateLimited, ProblemCode::Unavailable];
        if by != By::Anybody {
            problems.extend([ProblemCode::Unauthorized, ProblemCode::Forbidden]);
        }
        let path: Path = path.into();
        if path.names().next().is_some() {
            problems.push(ProblemCode::NotFound);
        }
        Self {
            method,
            path,
            by,
            id: id.into(),
            summary,
            query: None,
            headers: Vec::new(),
            bodies: Vec::new(),
            body_required: false,
            successes: Vec::new(),
            problems,
        }
    }

    /// A `GET`.
    pub fn get(path: impl Into<Path>, id: impl Into<String>, by: By, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, by, summary)
    }

    /// A `POST`.
    pub fn post(path: impl Into<Path>, id: impl Into<String>, by: By, summary: &'static str) -> Self {
        Self::new(Method::POST, path, id, by, summary)
    }

    /// A `DELETE`.
    pub fn delete(path: impl Into<Path>, id: impl Into<String>, by: By, summary: &'static str) -> Self {
        Self::new(Method::DELETE, path, id, by, summary)
    }

    /// Takes a query: each field of the type that the handler reads it into is a parameter.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(read_schema_of::<T>);
        self
    }

    /// Takes a header that is not every call's.
    pub fn header(mut self, name: &'static str, told: &'static str) -> Self {
        self.headers.push((name, told));
        self
    }

    /// Takes a JSON body. A handler that has it among its parameters declares it.
    pub fn takes<T: JsonBody>(mut self) -> Self {
        self.bodies.push(("application/json", Value::Null, Some(read_schema_of::<T>)));
        self.body_required = T::REQUIRED;
        self.problems.extend([ProblemCode::TooLarge, ProblemCode::UnsupportedMediaType, ProblemCode::RequestTimeout]);
        self
    }

    /// Takes a body that no type of ours describes.
    pub fn takes_other(mut self, media_type: &'static str, schema: Value) -> Self {
        self.bodies.push((media_type, schema, None));
        self.body_required = true;
        self
    }

    /// Answers with JSON of type `T`.
    pub fn gives<T: JsonSchema>(mut self, status: u16, told: &'static str, example: impl Into<String>) -> Self {
        let content =
            Content { media_type: "application/json", schema: Some(schema_of::<T>), example: Some(example.into()) };
        self.successes.push(Success { status, told, content: Some(content), headers: &[] });
        self
    }

    /// Answers with something else than JSON.
    pub fn gives_other(mut self, status: u16, told: &'static str, media_type: Option<&'static str>) -> Self {
        let content = media_type.map(|media_type| Content { media_type, schema: None, example: None });
        self.successes.push(Success { status, told, content, headers: &[] });
        self
    }

    /// Its last answer has these headers as well.
    pub fn with_headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        if let Some(success) = self.successes.last_mut() {
            success.headers = headers;
        }
        self
    }

    /// May say no with these codes, besides those that every call of its kind has.
    pub fn refuses(mut self, codes: &[ProblemCode]) -> Self {
        self.problems.extend(codes);
        self
    }

    /// As an operation object (<https://spec.openapis.org/oas/v3.1.1#operation-object>).
    pub fn to_json(&self, generator: &mut SchemaGenerator) -> Value {
        let mut object = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": self.by.told(),
            "tags": [self.id.split('.').next().unwrap_or_default()],
            "parameters": self.parameters(generator),
            "responses": self.responses(generator),
        });
        if self.by == By::Anybody {
            object["security"] = json!([]);
        }
        if !self.bodies.is_empty() {
            let content: Map<String, Value> = self
                .bodies
                .iter()
                .map(|(media_type, schema, of)| {
                    let schema = of.map_or_else(|| schema.clone(), |of| of(generator));
                    ((*media_type).to_owned(), json!({ "schema": schema }))
                })
                .collect();
            object["requestBody"] = json!({ "required": self.body_required, "content": content });
        }
        object
    }

    fn parameters(&self, generator: &mut SchemaGenerator) -> Vec<Value> {
        let in_path = self
            .path
            .names()
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": path_schema(&name) }));
        let in_header = self.headers.iter().map(
            |(name, told)| json!({ "name": name, "in": "header", "description": told, "schema": { "type": "string" } }),
        );
        let query = self.query.map(|of| of(generator)).unwrap_or_default();
        let fields = query["properties"].as_object().cloned().unwrap_or_default();
        let in_query = fields.into_iter().map(|(name, mut schema)| {
            let told = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({ "name": name, "in": "query", "description": told.unwrap_or_default(), "schema": schema })
        });
        in_path.chain(in_query).chain(in_header).collect()
    }

    fn responses(&self, generator: &mut SchemaGenerator) -> Map<String, Value> {
        let mut responses = Map::new();
        for success in &self.successes {
            let mut response = json!({ "description": success.told });
            if let Some(content) = &success.content {
                let mut shown = json!({});
                shown["schema"] = content.schema.map_or_else(|| json!({ "type": "string" }), |of| of(generator));
                if let Some(example) = &content.example {
                    shown["example"] = serde_json::from_str(example).unwrap_or_default();
                }
                response["content"] = json!({ content.media_type: shown });
            }
            let named: Map<String, Value> = success
                .headers
                .iter()
                .map(|(name, told)| {
                    ((*name).to_owned(), json!({ "description": told, "schema": { "type": "string" } }))
                })
                .collect();
            if !named.is_empty() {
                response["headers"] = named.into();
            }
            responses.insert(success.status.to_string(), response);
        }
        for status in self.problems.iter().map(|code| code.status().as_u16()) {
            responses
                .entry(status.to_string())
                .or_insert_with(|| json!({ "$ref": format!("#/components/responses/{status}") }));
        }
        responses
    }
}

/// What stands in a path.
fn path_schema(name: &str) -> Value {
    match name {
        "id" => json!({ "type": "string", "pattern": "^bat_[0-7][0-9A-HJKMNP-TV-Z]{25}$" }),
        "session" => json!({ "type": "integer", "minimum": 1, "maximum": i64::MAX }),
        "number" => json!({ "type": "integer", "minimum": 1, "maximum": crate::model::RowId::MAX_NUMBER }),
        _ => json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$" }),
    }
}
