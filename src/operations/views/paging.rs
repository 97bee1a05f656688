//! Which part of a list is meant.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::store::pages::Most;

/// Entries of a page where the caller does not say, and at most.
pub const DEFAULT_LIMIT: u32 = 100;
/// The largest page.
pub const LARGEST_LIMIT: u32 = 1_000;

/// `?limit=&after=` of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Entries at most; 100 by default.
    #[schemars(range(min = 1, max = LARGEST_LIMIT))]
    pub limit: Option<u32>,
    /// The `next` of an earlier page.
    pub after: Option<String>,
}

impl Paging {
    /// Entries of the page.
    pub fn limit(&self) -> Result<u32, PagingFault> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=LARGEST_LIMIT => Ok(limit),
            _ => Err(PagingFault::Limit),
        }
    }

    /// Entries of the page, in the bytes that a page has.
    pub fn most(&self) -> Result<Most, PagingFault> {
        self.limit().map(Most::entries)
    }

    /// The cursor, where one is given.
    pub fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, PagingFault> {
        let parsed = self.after.as_deref().map(str::parse).transpose();
        parsed.map_err(|_| PagingFault::After)
    }
}

/// Why there is no such part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PagingFault {
    /// Too many entries, or none.
    #[error("`limit` is 1 to {LARGEST_LIMIT}")]
    Limit,
    /// No cursor of this list.
    #[error("`after` is the `next` of an earlier page")]
    After,
}
