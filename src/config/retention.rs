//! `[retention]`

use std::time::Duration;

use super::reader::Section;

/// Where it is not said.
const AUDIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// `[retention]`
#[derive(Debug, Clone)]
pub struct Retention {
    /// `finished_batches`: a batch that was finished for so long is purged: rows, key and stored file. Left out: never.
    pub finished_batches: Option<Duration>,
    /// `audit`: entries of the audit are kept for so long. Default 365d.
    pub audit: Duration,
}

impl Retention {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let finished_batches = section.optional_duration("finished_batches");
        let retention = Self { finished_batches, audit: section.duration("audit", AUDIT) };
        for (key, given) in [("finished_batches", retention.finished_batches), ("audit", Some(retention.audit))] {
            if given.is_some_and(|given| given.is_zero()) {
                section.fault(key, "is more than \"0s\"; leave it out where nothing is to go by itself");
            }
        }
        section.finish();
        retention
    }
}
