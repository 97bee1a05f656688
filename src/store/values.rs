//! Our types as SQLite's values.

use std::str::FromStr;

use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use super::{
    alerts::AlertState,
    error::{Result, StoreError},
};
use crate::{
    downstream::GateReason,
    model::{
        AlertKind, AskedBy, BatchId, BatchStatus, ClaimNumber, ClaimOwner, FailureCode, RowId, RowStatus, Timestamp,
    },
};

macro_rules! stored_as_integer {
    ($($type:ident),*) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.into())
            }
        }
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_i64().map(Self)
            }
        }
    )*};
}

macro_rules! stored_as_text {
    ($($type:ident),*) => {$(
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                Self::from_str(value.as_str()?).map_err(|_| FromSqlError::InvalidType)
            }
        }
    )*};
}

/// For enums whose variants have a spelling.
macro_rules! stored_as_word {
    ($($type:ident),*) => {$(
        stored_as_text!($type);

        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }
    )*};
}

stored_as_integer!(Timestamp, RowId, ClaimOwner, ClaimNumber);
stored_as_text!(BatchId);
stored_as_word!(BatchStatus, RowStatus, FailureCode, GateReason, AskedBy, AlertKind, AlertState);

impl ToSql for BatchId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

/// A column of exactly 32 bytes.
pub(super) fn digest(row: &Row<'_>, column: &str) -> Result<[u8; 32]> {
    let bytes: Vec<u8> = row.get(column)?;
    bytes.try_into().map_err(|_| StoreError::Unknown { what: "digest" })
}
