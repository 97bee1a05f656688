//! What was deleted, kept where backups lie: a restore brings back what was there, and where the data folder of before is lost
//! nothing else tells which batches somebody had deleted since.
//!
//! Each list is an object of its own that is written once, before a deletion counts as carried out: ids and times, and a tag
//! under the appliance's own secret. So whoever can write where backups lie deletes nothing here, and the lists of several
//! appliances can lie side by side. One list holds what was deleted within a few moments; it goes when no backup is older.

use std::{
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::{
    BackupError, Place, ScheduledName, hashing, place,
    shelf::{Entry, Shelf},
};
use crate::{
    appliance::Appliance,
    config::{self, Config},
    crypto::{MacKey, same},
    heartbeat,
    model::{BatchId, Timestamp},
    objects::{ObjectError, Objects},
    store::deletions,
};

/// Beside the backups.
const FOLDER: &str = "deleted";
/// How often it is looked for deletions that are on no list.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// ... where the place for them did not take the last one.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Deletions on one list.
const AT_ONCE: u32 = 1_000;
/// A list that is larger than this is none.
const LARGEST: u64 = 1 << 20;

/// A list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    deleted: Vec<Gone>,
    /// Over `deleted`, in hexadecimal digits.
    tag: String,
}

/// A batch that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The name that it had.
    pub id: BatchId,
    /// When.
    pub deleted_at: Timestamp,
}

impl List {
    fn of(deleted: Vec<Gone>, identity: &MacKey) -> Self {
        Self { tag: hashing::hex(&tag(&deleted, identity)), deleted }
    }

    /// What is on it, where the appliance with this secret wrote it.
    fn checked(self, identity: &MacKey) -> Option<Vec<Gone>> {
        let given = hashing::from_hex(&self.tag)?;
        same(&given, &tag(&self.deleted, identity)).then_some(self.deleted)
    }
}

fn tag(deleted: &[Gone], identity: &MacKey) -> [u8; 32] {
    let text: String = deleted.iter().map(|gone| format!("{} {}\n", gone.id, gone.deleted_at.0)).collect();
    identity.tag(&[b"deleted batches", text.as_bytes()])
}

/// Where lists lie.
struct Lists {
    objects: Objects,
    prefix: String,
}

impl Lists {
    fn beside(shelf: &Path) -> Result<Self, BackupError> {
        Ok(Self { objects: Objects::local(shelf.join(FOLDER))?, prefix: String::new() })
    }

    fn in_bucket(objects: Objects) -> Self {
        Self { objects, prefix: format!("{}{FOLDER}/", place::PREFIX) }
    }

    /// Those that lie beside this backup, if there are any.
    fn of_place(place: &Place, config: &Config, runtime: &Handle) -> Result<Option<Self>, BackupError> {
        match (place.folder(), &config.objects) {
            (Some(folder), _) => {
                let shelf = folder.parent().filter(|shelf| shelf.join(FOLDER).is_dir());
                shelf.map(Self::beside).transpose()
            }
            (None, config::Objects::Minio(settings)) => {
                Ok(Some(Self::in_bucket(Objects::minio(settings, runtime.clone())?)))
            }
            (None, config::Objects::Local) => Ok(None),
        }
    }

    fn write(&self, name: &ScheduledName, list: &List) -> Result<(), BackupError> {
        let text = serde_json::to_vec(list).map_err(|error| ObjectError::from(io::Error::from(error)))?;
        let mut writer = self.objects.create(&format!("{}{name}-{}.json", self.prefix, ulid::Ulid::generate()))?;
        writer.write_all(&text).map_err(ObjectError::from)?;
        writer.finish()?;
        Ok(())
    }

    /// What is on all lists that the appliance with this secret wrote; `None` where there is no list of it.
    fn read(&self, identity: &MacKey) -> Result<Option<Vec<Gone>>, BackupError> {
        let mut known = None;
        for name in self.objects.names(&self.prefix)? {
            let mut text = Vec::new();
            match self.objects.open(&name) {
                Ok(reader) => reader.take(LARGEST).read_to_end(&mut text).map_err(ObjectError::from)?,
                Err(ObjectError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let list = serde_json::from_slice::<List>(&text).ok().and_then(|list| list.checked(identity));
            if let Some(gone) = list {
                known.get_or_insert_with(Vec::new).extend(gone);
            }
        }
        Ok(known)
    }

    /// Removes the lists of this appliance that were written before `oldest`: no backup holds what is on them.
    fn let_go(&self, oldest: Timestamp, mark: &str) -> Result<(), BackupError> {
        for name in self.objects.names(&self.prefix)? {
            let own = name.strip_prefix(&self.prefix).and_then(|name| name.rsplit_once('-'));
            let own = own.and_then(|(name, _)| name.parse::<ScheduledName>().ok()).filter(|name| name.mark == mark);
            if own.is_some_and(|name| name.at < oldest) {
                self.objects.delete(&name)?;
            }
        }
        Ok(())
    }
}

/// What was deleted since a backup was taken, by the lists that lie beside it; `None` where there are none of this appliance.
pub(super) fn read(
    place: &Place,
    identity: &MacKey,
    config: &Config,
    runtime: &Handle,
) -> Result<Option<Vec<Gone>>, BackupError> {
    Ok(Lists::of_place(place, config, runtime)?.map(|lists| lists.read(identity)).transpose()?.flatten())
}

/// Keeps lists until the appliance closes, where backups have a place.
pub fn watch(appliance: &Appliance, runtime: &Handle) {
    if appliance.config.backup.to.is_none() {
        return;
    }
    appliance.hearts.register("deletions", heartbeat::LONGEST).settle_in();
    let mut pause = LOOK_EVERY;
    while !appliance.closing.wait(pause) {
        pause = match look(appliance, runtime) {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                tracing::warn!(
                    event = "deletions.not_listed",
                    %error,
                    "what was deleted could not be noted beside the backups; it is tried again by itself"
                );
                AGAIN_AFTER
            }
        };
    }
}

fn look(appliance: &Appliance, runtime: &Handle) -> Result<(), BackupError> {
    let unlisted = appliance.store.read(|connection| deletions::unlisted(connection, AT_ONCE))?;
    if unlisted.is_empty() {
        return Ok(());
    }
    let shelf = Shelf::open(&appliance.config, runtime)?;
    let mark = ScheduledName::mark_of(&appliance.identity);
    let oldest = oldest(&shelf.entries()?, &mark);
    let lists = match shelf {
        Shelf::Folder(folder) => Lists::beside(&folder)?,
        Shelf::Bucket(objects) => Lists::in_bucket(*objects),
    };
    let gone = unlisted.iter().map(|it| Gone { id: it.id, deleted_at: it.deleted_at }).collect();
    lists.write(&ScheduledName::new(appliance.clock.now(), &mark), &List::of(gone, &appliance.identity))?;
    appliance.store.write(move |tx| deletions::note_listed(tx, &unlisted))?;
    appliance.chores_bell.ring();
    oldest.map_or(Ok(()), |oldest| lists.let_go(oldest, &mark))
}

/// When the oldest backup of this appliance was begun; `None` where that cannot be told.
fn oldest(entries: &[Entry], mark: &str) -> Option<Timestamp> {
    let mut oldest = None;
    for entry in entries.iter().filter(|entry| entry.is_whole) {
        match &entry.scheduled {
            Some(name) if name.mark == mark => oldest = Some(oldest.map_or(name.at, |at: Timestamp| at.min(name.at))),
            Some(_) => {}
            // Somebody asked for it: it may be as old as it likes.
            None => return None,
        }
    }
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(byte: u8) -> MacKey {
        MacKey::from_bytes(&[byte; 32]).expect("32 bytes")
    }

    fn gone(at: i64) -> Gone {
        Gone { id: BatchId::random(), deleted_at: Timestamp(at) }
    }

    #[test]
    fn lists_are_read_back_and_what_somebody_else_put_there_is_passed_over() {
        let shelf = tempfile::tempdir().expect("a folder");
        let lists = Lists::beside(shelf.path()).expect("a place");
        assert_eq!(lists.read(&identity(1)).expect("read"), None);
        let name = |at: i64, mark: &str| ScheduledName::new(Timestamp(at), mark);
        let (first, second, foreign) = (gone(1_000), gone(70_000), gone(5));
        lists.write(&name(2_000, "0123abcd"), &List::of(vec![first], &identity(1))).expect("written");
        lists.write(&name(80_000, "0123abcd"), &List::of(vec![second], &identity(1))).expect("written");
        lists.write(&name(2_000, "ffffffff"), &List::of(vec![foreign], &identity(2))).expect("written");
        let mut planted = List::of(vec![first], &identity(1));
        planted.deleted.push(foreign);
        lists.write(&name(3_000, "0123abcd"), &planted).expect("written");
        std::fs::write(shelf.path().join(FOLDER).join("stray"), "{").expect("written");
        assert_eq!(lists.read(&identity(1)).expect("read"), Some(vec![first, second]));
        assert_eq!(lists.read(&identity(2)).expect("read"), Some(vec![foreign]));
        lists.let_go(Timestamp(60_000), "0123abcd").expect("removed");
        assert_eq!(lists.read(&identity(1)).expect("read"), Some(vec![second]));
        assert_eq!(lists.read(&identity(2)).expect("read"), Some(vec![foreign]), "another's stays");
    }

    #[test]
    fn the_oldest_backup_is_known_where_all_have_their_time_in_their_name() {
        let entry =
            |name: &str, is_whole: bool| Entry { name: name.to_owned(), scheduled: name.parse().ok(), is_whole };
        let mut entries = vec![
            entry("20261124T160000Z-aaaaaaaa", true),
            entry("20261124T150000Z-aaaaaaaa", true),
            entry("20261124T140000Z-aaaaaaaa", false),
            entry("20261124T130000Z-bbbbbbbb", true),
        ];
        assert_eq!(oldest(&entries, "aaaaaaaa"), entries[1].scheduled.as_ref().map(|name| name.at));
        assert_eq!(oldest(&entries, "cccccccc"), None);
        entries.push(entry("by-hand", true));
        assert_eq!(oldest(&entries, "aaaaaaaa"), None);
    }
}
