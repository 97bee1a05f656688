//! `GET /openapi.json`: the API as an OpenAPI 3.1 document.
//!
//! Schemas are made from the types that handlers read and show ([`schemars`]); the calls are those of
//! [`routes`](super::routes). A schema-driven tester holds the server against the document.

mod operation;

use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use warp::http::StatusCode;

pub use self::operation::{By, Operation};
use super::{
    answer::{Answer, json_of},
    problem::{ProblemBody, ProblemCode},
};

/// The document itself, as it describes itself (<https://spec.openapis.org/oas/v3.1.1#openapi-object>).
pub struct Document;

impl JsonSchema for Document {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OpenApi".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "required": ["openapi", "info", "paths", "components"],
            "properties": {
                "openapi": { "type": "string", "pattern": "^3\\.1\\." },
                "info": {
                    "type": "object",
                    "required": ["title", "version"],
                    "properties": { "title": { "type": "string" }, "version": { "type": "string" } },
                },
                "paths": { "type": "object", "additionalProperties": { "type": "object" } },
                "components": { "type": "object" },
            },
        })
    }
}

/// Answers with the document.
pub async fn answered_with(document: Bytes) -> Answer {
    Ok(json_of(StatusCode::OK, document))
}

/// Where schemas refer to each other in the document.
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    })
}

/// The document of a server with these calls.
pub fn document<'a>(operations: impl Iterator<Item = &'a Operation>) -> Value {
    let mut generator: SchemaGenerator = settings().for_serialize().into_generator();
    let mut paths = Map::new();
    for operation in operations {
        let described = operation.to_json(&mut generator);
        let path = paths.entry(operation.path.described()).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = described;
    }
    let problem = generator.subschema_for::<ProblemBody>().to_value();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "dripfeed",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Upload a CSV; every row goes through a chain of rate-limited calls. Times are RFC 3339 in \
                            UTC. Lists are pages: pass `next` as `after` until it is null. Every answer has an \
                            `x-request-id`.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": problem_responses(&problem),
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": "A client's key, an operator's token, the dispatch token, or the metrics token.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": super::session::COOKIE,
                    "description": "What `POST /session` sets; behind TLS its name begins with `__Host-`. A change made with it needs the header \
                                    `X-Dripfeed: page` and the server's own Origin.",
                },
            },
        },
    })
}

/// One response for each status that problems come with, with an example for each code.
fn problem_responses(schema: &Value) -> Map<String, Value> {
    let mut responses = Map::new();
    for &code in ProblemCode::ALL {
        let status = code.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let response = responses.entry(status.as_u16().to_string()).or_insert_with(|| {
            json!({
                "description": title,
                "content": { "application/problem+json": { "schema": schema, "examples": {} } },
            })
        });
        response["content"]["application/problem+json"]["examples"][code.as_str()] = json!({ "value": {
            "type": "about:blank", "title": title, "status": status.as_u16(), "code": code.as_str(),
            "detail": code.example(), "request_id": "req_01KB1Y3M0Q8V5T2N7R4C6D9E0F",
        }});
    }
    responses
}
