//! `dripfeed client limit`: what a client may, set and taken back.

use clap::Args;

use super::{client::change, error::CliError};
use crate::{
    config::parse_size,
    model::quota::QuotaChanges,
    operations::{Env, client_limits::Limits, clients::Change},
};

/// What stands for what is configured.
pub(super) const DEFAULT: &str = "default";
/// What stands for every workflow.
const ALL: &str = "all";

/// What was typed of that. Each value is a number, or `default`: what is configured for all.
#[derive(Debug, Args)]
pub struct LimitArgs {
    name: String,
    /// Rows that each dispatch run grants it
    #[arg(long, value_name = "N|default", value_parser = number, required_unless_present_any = ["workflows", "pending_rows", "stored_bytes", "batches", "uploads_at_once"])]
    rows_per_run: Option<Own<u32>>,
    /// The workflows that it may use, from the next upload on
    #[arg(long, value_name = "NAME,…|all", value_parser = workflows)]
    workflows: Option<Own<Vec<String>>>,
    /// Rows of it that are not finished
    #[arg(long, value_name = "N|default", value_parser = number)]
    pending_rows: Option<Own<u32>>,
    /// Bytes of its files and rows together
    #[arg(long, value_name = "SIZE|default", value_parser = size)]
    stored_bytes: Option<Own<u64>>,
    /// Batches of it, finished ones too, until they are deleted
    #[arg(long, value_name = "N|default", value_parser = number)]
    batches: Option<Own<u32>>,
    /// Uploads of it that are under way
    #[arg(long, value_name = "N|default", value_parser = number)]
    uploads_at_once: Option<Own<u32>>,
}

/// A client's own value; none where it is to have none.
#[derive(Debug, Clone)]
pub struct Own<T>(Option<T>);

pub(super) fn own<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Own<T>, String> {
    if text == DEFAULT { Ok(Own(None)) } else { parse(text).map(|value| Own(Some(value))) }
}

fn number(text: &str) -> Result<Own<u32>, String> {
    own(text, |text| text.parse().map_err(|_| format!("is a whole number up to {}, or `{DEFAULT}`", u32::MAX)))
}

fn size(text: &str) -> Result<Own<u64>, String> {
    own(text, |text| text.parse().or_else(|_| parse_size(text)))
}

/// Names with a comma between them.
pub(super) fn workflows(text: &str) -> Result<Own<Vec<String>>, String> {
    let names = || text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    Ok(Own((text != ALL).then(names)))
}

impl<T> From<Own<T>> for Option<T> {
    fn from(own: Own<T>) -> Self {
        own.0
    }
}

impl LimitArgs {
    pub(super) fn run(self, env: Env<'_>) -> Result<(), CliError> {
        let limits = Limits {
            rows_per_run: self.rows_per_run.map(Into::into),
            workflows: self.workflows.map(Into::into),
            quotas: QuotaChanges {
                pending_rows: self.pending_rows.map(Into::into),
                stored_bytes: self.stored_bytes.map(Into::into),
                batches: self.batches.map(Into::into),
                uploads_at_once: self.uploads_at_once.map(Into::into),
            },
        };
        change(env, &self.name, Change { limits, ..Change::default() })
    }
}
