//! How our own words and times are described in JSON Schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{AlertKind, AskedBy, BatchId, BatchStatus, FailureCode, RowStatus, Timestamp};

/// How each is spelled.
pub fn words<T: Copy + Into<&'static str>>(all: &[T]) -> Vec<&'static str> {
    all.iter().map(|word| (*word).into()).collect()
}

macro_rules! described {
    ($($type:ident: $schema:expr),*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

described! {
    Timestamp: json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, in UTC." }),
    BatchId: json_schema!({ "type": "string", "pattern": "^bat_[0-7][0-9A-HJKMNP-TV-Z]{25}$" }),
    BatchStatus: json_schema!({ "type": "string", "enum": words(BatchStatus::ALL) }),
    RowStatus: json_schema!({ "type": "string", "enum": words(RowStatus::ALL) }),
    AlertKind: json_schema!({ "type": "string", "enum": words(AlertKind::ALL) }),
    AskedBy: json_schema!({ "type": "string", "enum": words(AskedBy::ALL) }),
    FailureCode: json_schema!({ "type": "string", "enum": words(FailureCode::ALL) })
}
