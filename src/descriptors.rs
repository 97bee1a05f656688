//! Open files: how many this process may have, and how they are shared out.
//!
//! Each caller's connection is one, and so is each call's. Those come by the thousand, and whatever else has to be opened, the
//! database's files, an upload's, a backup's, has to be had just then. So both have a share that they do not go beyond, and the
//! rest is kept back. Where there are enough files, nobody notices.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back for the process itself: the database's connections, the log, what its runtimes wait by, backups, names that are
/// looked up, and who is told of something (webhooks, hooks, a provider, a collector).
const OWN: usize = 80;
/// And for each upload under way: its stored file, and what lies aside while it is checked.
const OF_UPLOAD: usize = 5;
/// And for each file of errors on its way.
const OF_ERROR_FILE: usize = 2;
/// A part of all that is taken for files of errors, where there are few.
const ERROR_FILES_SHARE: usize = 32;
/// More than this part of all is never kept back.
const KEPT_SHARE: usize = 2;

/// What the configuration could use, where there were enough.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Connections of callers.
    pub connections: usize,
    /// Requests under way; for each, a connection may rest besides.
    pub calls: usize,
    /// Uploads at once.
    pub uploads: usize,
    /// Files of errors on their way.
    pub error_files: usize,
}

/// So many of each there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Connections of callers.
    pub connections: usize,
    /// Connections to dependencies.
    pub calls: usize,
    /// Files of errors on their way.
    pub error_files: usize,
}

/// Raises the soft limit, often 1,024, which is for programs that `select`, to the hard one, and says how many files may be
/// open.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // Where it cannot be raised, it holds as it is.
    let holds = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    holds.current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

impl Shares {
    /// How so many files are shared out.
    pub fn of(files: usize, wanted: Wanted) -> Self {
        let error_files = wanted.error_files.min(files / ERROR_FILES_SHARE / OF_ERROR_FILE);
        let kept = OWN + OF_UPLOAD * wanted.uploads + OF_ERROR_FILE * error_files;
        let left = files - kept.min(files / KEPT_SHARE);
        let calls = 2 * wanted.calls;
        // Half for each, and what one of them does not need is the other's.
        let connections = wanted.connections.min((left / 2).max(left.saturating_sub(calls)));
        Self { connections, calls: left - connections, error_files }
    }

    /// Whether that is less than was wanted.
    pub fn are_short_of(&self, wanted: Wanted) -> bool {
        self.connections < wanted.connections || self.calls < wanted.calls || self.error_files < wanted.error_files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { connections: 1_056, calls: 4_096, uploads: 4, error_files: 64 };

    fn kept(files: usize, shares: Shares) -> usize {
        files - shares.connections - shares.calls
    }

    #[test]
    fn where_there_are_enough_everybody_has_what_is_wanted() {
        for files in [20_000, 1 << 20, usize::MAX] {
            let shares = Shares::of(files, WANTED);
            assert!(!shares.are_short_of(WANTED), "{shares:?} of {files}");
            assert_eq!(kept(files, shares), OWN + 4 * OF_UPLOAD + 64 * OF_ERROR_FILE);
        }
    }

    #[test]
    fn where_there_are_few_both_sides_have_less_and_the_rest_is_kept_back() {
        for files in [256, 512, 1_024, 4_096] {
            let shares = Shares::of(files, WANTED);
            assert!(shares.are_short_of(WANTED), "{shares:?} of {files}");
            assert!(shares.connections >= 50 && shares.calls >= 50, "{shares:?} of {files}");
            assert!(kept(files, shares) >= 100 + OF_ERROR_FILE * shares.error_files, "{shares:?} of {files}");
        }
        // Next to nothing is shared out all the same.
        let shares = Shares::of(64, WANTED);
        assert_eq!(shares, Shares { connections: 16, calls: 16, error_files: 1 });
    }

    #[test]
    fn what_one_side_does_not_need_is_the_others() {
        let few_calls = Shares::of(1_024, Wanted { calls: 64, ..WANTED });
        assert!(few_calls.connections > 700 && few_calls.calls >= 128, "{few_calls:?}");
        let few_callers = Shares::of(1_024, Wanted { connections: 48, ..WANTED });
        assert!(few_callers.connections == 48 && few_callers.calls > 700, "{few_callers:?}");
    }
}
