//! How our own words and times are described in JSON Schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{AlertKind, AskedBy, BatchId, BatchStatus, FailureCode, RowStatus, Timestamp};

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
    BatchStatus: json_schema!({ "type": "string", "enum": BatchStatus::ALL.map(BatchStatus::as_str) }),
    RowStatus: json_schema!({ "type": "string", "enum": RowStatus::ALL.map(RowStatus::as_str) }),
    AlertKind: json_schema!({ "type": "string", "enum": AlertKind::ALL.map(AlertKind::as_str) }),
    AskedBy: json_schema!({ "type": "string", "enum": AskedBy::ALL.map(AskedBy::as_str) }),
    FailureCode: json_schema!({ "type": "string", "enum": FailureCode::ALL.map(FailureCode::as_str) })
}
