//! What goes from the shelf by itself: backups that are old, and what is left of those that broke off.

use std::time::Duration;

use super::{BackupError, schedule::Schedule, shelf::Entry};
use crate::{
    model::Timestamp,
    store::{
        audit::{self, Deed},
        backups,
    },
};

/// Backups that one look removes; the rest go with the next, so that a backup that is due is not held up.
const REMOVED_AT_ONCE: usize = 100;
/// One that broke off goes at once where this database began it. Another database of the same appliance (of before a
/// restore, or one that still lives elsewhere) gets so long for what may be under way.
const BROKEN_OFF_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Lines of the table that one transaction removes.
const FORGOTTEN_AT_ONCE: u32 = 100;

/// What became of a look.
pub(super) struct Swept {
    /// How many are gone.
    pub removed: usize,
    /// When the next one will be old, of those that are there.
    pub next: Option<Timestamp>,
}

impl Schedule<'_> {
    /// Removes what is to go.
    ///
    /// What there is, is what the shelf has, and not what the database remembers: a restored database knows nothing of
    /// the backups that were taken after its own, and has its own down as one that never came to its end.
    pub(super) fn sweep(&self) -> Result<Swept, BackupError> {
        let entries = self.shelf.entries()?;
        let (going, next) = self.going(&entries)?;
        for name in going.iter().take(REMOVED_AT_ONCE) {
            if self.appliance.closing.is_closed() {
                return Err(BackupError::Ended);
            }
            self.shelf.remove(name)?;
            let deed = Deed { target: Some(self.shelf.place(name).to_string()), ..self.deed("backup.remove") };
            self.appliance.store.write(move |tx| audit::note(tx, &deed))?;
        }
        if going.len() > REMOVED_AT_ONCE {
            return Ok(Swept { removed: REMOVED_AT_ONCE, next: Some(self.appliance.clock.now()) });
        }
        let before = self.kept_since();
        while self.appliance.store.write(move |tx| backups::forget(tx, before, FORGOTTEN_AT_ONCE))? > 0 {}
        Ok(Swept { removed: going.len(), next })
    }

    /// The names of those that go, and when the next one will.
    fn going<'a>(&self, entries: &'a [Entry]) -> Result<(Vec<&'a str>, Option<Timestamp>), BackupError> {
        let mine = |entry: &&Entry| entry.scheduled.as_ref().is_some_and(|name| name.mark == self.mark);
        let mine: Vec<&Entry> = entries.iter().filter(mine).collect();
        let last_whole = mine.iter().rfind(|entry| entry.is_whole).map(|entry| entry.name.as_str());
        let (kept_since, now) = (self.kept_since(), self.appliance.clock.now());
        let (mut going, mut next) = (Vec::new(), None);
        for entry in mine {
            let at = entry.scheduled.as_ref().map_or(now, |name| name.at);
            let is_old = at < kept_since;
            let goes = if entry.is_whole {
                is_old && Some(entry.name.as_str()) != last_whole
            } else {
                is_old || at < now.before(BROKEN_OFF_AFTER) || self.has_begun(&entry.name)?
            };
            if goes {
                going.push(entry.name.as_str());
            } else if !is_old && next.is_none() {
                // They come sorted by time.
                next = Some(at.after(self.appliance.config.backup.keep));
            }
        }
        Ok((going, next))
    }

    fn has_begun(&self, name: &str) -> Result<bool, BackupError> {
        Ok(self.appliance.store.read(|connection| backups::has_begun(connection, name))?)
    }

    fn kept_since(&self) -> Timestamp {
        self.appliance.clock.now().before(self.appliance.config.backup.keep)
    }
}
