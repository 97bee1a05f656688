//! `[backup]`

use std::time::Duration;

use super::reader::Section;

/// Where it is not said.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// `[backup]`
#[derive(Debug, Clone)]
pub struct Backup {
    /// `keep`: how long a backup is kept. The receipt of a deleted batch says until when one can still hold it. Default
    /// 30d.
    pub keep: Duration,
    /// `every`: how often a backup is due; one that is overdue is told. Left out: none is scheduled.
    pub every: Option<Duration>,
}

impl Backup {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let backup = Self { keep: section.duration("keep", KEEP), every: section.optional_duration("every") };
        section.finish();
        backup
    }
}
