//! The table `data_keys`: what opens everything of a batch, kept so that destroying it leaves no copy in the file.
//!
//! How the table does that is told in the schema. It holds for whoever deletes or changes a record with `secure_delete`
//! on; what the WAL still has goes with [`super::Store::truncate_wal`].

use rusqlite::{Connection, params};

use super::{Tx, error::Result, keys::SealedSecret};
use crate::model::BatchId;

/// A batch's data key, wrapped.
#[derive(Debug, Clone)]
pub struct BatchKey {
    /// The batch's key in the database.
    pub batch: i64,
    /// Its name, which the wrapped key is bound to.
    pub id: BatchId,
    /// The ring key that wraps it, and the wrapped key.
    pub sealed: SealedSecret,
}

/// Keeps the key of a new batch.
pub fn keep(tx: &Tx<'_>, batch: i64, key: &SealedSecret) -> Result<()> {
    tx.connection
        .prepare_cached("INSERT INTO data_keys (batch, key_id, sealed) VALUES (?, ?, ?)")?
        .execute(params![batch, key.key_id, key.sealed])?;
    Ok(())
}

/// The key of a batch.
pub fn of(connection: &Connection, batch: i64) -> Result<SealedSecret> {
    let mut statement = connection.prepare_cached("SELECT key_id, sealed FROM data_keys WHERE batch = ?")?;
    Ok(statement.query_row([batch], |row| Ok(SealedSecret { key_id: row.get(0)?, sealed: row.get(1)? }))?)
}

/// Destroys the key of a batch, and with it whatever is sealed under it.
pub fn destroy(tx: &Tx<'_>, batch: i64) -> Result<()> {
    tx.connection.prepare_cached("DELETE FROM data_keys WHERE batch = ?")?.execute([batch])?;
    Ok(())
}

/// Batches behind `after` whose data key is not wrapped under this key of the ring, oldest first.
pub fn under_others(connection: &Connection, key_id: &str, after: i64, limit: u32) -> Result<Vec<BatchKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT batch, id, key_id, sealed FROM data_keys JOIN batches USING (batch)
         WHERE batch > ? AND key_id <> ? ORDER BY batch LIMIT ?",
    )?;
    let rows = statement.query_map(params![after, key_id, limit], |row| {
        let sealed = SealedSecret { key_id: row.get(2)?, sealed: row.get(3)? };
        Ok(BatchKey { batch: row.get(0)?, id: row.get(1)?, sealed })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Puts another wrapping of the same data key in the place of `old`; whether that was still there.
pub fn change(tx: &Tx<'_>, old: &BatchKey, new: &SealedSecret) -> Result<bool> {
    let changed = tx
        .connection
        .prepare_cached("UPDATE data_keys SET key_id = ?, sealed = ? WHERE batch = ? AND key_id = ? AND sealed = ?")?
        .execute(params![new.key_id, new.sealed, old.batch, old.sealed.key_id, old.sealed.sealed])?;
    Ok(changed == 1)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashSet},
        time::Duration,
    };

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        clock::Clock,
        crypto::{DataKey, KeyRing},
        model::{ClaimOwner, Outline},
        store::{
            DatabaseSettings, Durability, FILE_NAME, Store,
            batches::{self, NewBatch},
            clients,
            deletions::{self, Asked, CopiesKept},
            extraction,
            keys::{self, KeyProof},
            upkeep, uploads,
            workflows::{self, NewVersion},
        },
    };

    /// Of a wrapped key, not even so many bytes may be left.
    const PIECE: usize = 8;
    const SEALED_BYTES: usize = 80;

    /// A database, and what is known of the wrapped keys in it.
    struct World {
        store: Store,
        owner: ClaimOwner,
        random: StdRng,
        there: BTreeMap<i64, (BatchId, SealedSecret)>,
        destroyed: Vec<Vec<u8>>,
        folder: tempfile::TempDir,
    }

    /// The one version of a workflow that there is here.
    fn version(tx: &Tx<'_>) -> Result<i64> {
        keys::add_proof(tx, &KeyProof { key_id: "k1".into(), proof: vec![1] })?;
        workflows::keep(
            tx,
            &NewVersion {
                name: "invite".into(),
                digest: [1; 32],
                outline: Outline { repeat_window_ms: 0, steps: Vec::new() },
                sealed: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
            },
        )
    }

    impl World {
        fn new(seed: u64) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let settings = DatabaseSettings { synchronous: Durability::Normal, ..DatabaseSettings::default() };
            let store = Store::open(folder.path(), settings, Clock::machine()).expect("a new database");
            assert!(store.write(|tx| clients::add(tx, "acme", [1; 32], None)).expect("added"));
            let random = StdRng::seed_from_u64(seed);
            Self { store, owner: ClaimOwner::random(), random, there: BTreeMap::new(), destroyed: Vec::new(), folder }
        }

        fn wrapping(&mut self, key_id: &str) -> SealedSecret {
            let mut sealed = vec![0; SEALED_BYTES];
            self.random.fill(&mut sealed[..]);
            SealedSecret { key_id: key_id.to_owned(), sealed }
        }

        fn add(&mut self) {
            let (id, owner, wrapped) = (BatchId::random(), self.owner, self.wrapping("k1"));
            let mut new = NewBatch {
                client: 1,
                workflow: "invite".into(),
                workflow_version: 0,
                data_key: wrapped.clone(),
                details: vec![2; self.random.random_range(1..60)],
                object: id.to_string(),
                file_bytes: 1,
                file_digest: [7; 32],
                rows: 3,
                skipped: 0,
                skipped_bytes: 0,
            };
            let created = self.store.write(move |tx| {
                let upload = uploads::begin(tx, id, owner)?;
                new.workflow_version = version(tx)?;
                batches::create(tx, upload, &new)
            });
            self.there.insert(created.expect("a batch").batch, (id, wrapped));
        }

        fn any(&mut self) -> i64 {
            let nth = self.random.random_range(0..self.there.len());
            *self.there.keys().nth(nth).expect("one of them")
        }

        /// The record of some batch grows or shrinks.
        fn change(&mut self) {
            let (batch, owner) = (self.any(), self.owner);
            let words = "x".repeat(self.random.random_range(1..200));
            let changed = match self.random.random_range(0..3) {
                0 => self.store.write(move |tx| batches::pause(tx, batch, Some(&words)).map(drop)),
                1 => self.store.write(move |tx| batches::resume(tx, batch).map(drop)),
                _ => self.store.write(move |tx| {
                    extraction::claim(tx, batch, owner, tx.now)?;
                    extraction::release(tx, batch, owner, tx.now, Some(("storage", &words))).map(drop)
                }),
            };
            changed.expect("changed");
        }

        fn rotate(&mut self) {
            let (batch, new) = (self.any(), self.wrapping("k2"));
            let (id, old) = self.there.remove(&batch).expect("it is there");
            self.there.insert(batch, (id, new.clone()));
            self.destroyed.push(old.sealed.clone());
            let old = BatchKey { batch, id, sealed: old };
            assert!(self.store.write(move |tx| change(tx, &old, &new)).expect("rotated"));
        }

        fn delete(&mut self) {
            let batch = self.any();
            let (id, wrapped) = self.there.remove(&batch).expect("it is there");
            self.destroyed.push(wrapped.sealed);
            let deleted = self.store.write(move |tx| {
                assert_eq!(batches::cancel(tx, batch)?, batches::Cancelled::Now);
                deletions::begin(tx, id, CopiesKept { backups: Duration::ZERO, replicas: None })
            });
            assert!(matches!(deleted, Ok(Asked::Deleted(_))), "{deleted:?}");
        }

        /// The database's file, which has everything once the WAL is cut to nothing.
        fn file(&self) -> Vec<u8> {
            assert!(self.store.truncate_wal().expect("asked"), "nobody reads");
            std::fs::read(self.folder.path().join(FILE_NAME)).expect("the file")
        }

        fn number(&self, sql: &str) -> usize {
            let found = self.store.read(|connection| Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?));
            found.expect("a number") as usize
        }
    }

    /// With this seed a copy stayed behind when the key lay in the record of its batch.
    #[test]
    fn of_keys_that_were_destroyed_or_rotated_nothing_is_left_however_pages_are_rebuilt() {
        let mut world = World::new(2);
        for _ in 0..300 {
            world.add();
        }
        for _ in 0..1_000 {
            world.delete();
            world.add();
            world.change();
            world.rotate();
        }
        let file = world.file();
        let found: HashSet<&[u8]> = file.windows(PIECE).collect();
        let is_found = |key: &[u8]| key.chunks(PIECE).any(|piece| found.contains(piece));
        let left = world.destroyed.iter().filter(|key| is_found(key)).count();
        assert_eq!(left, 0, "of {} keys", world.destroyed.len());
        assert_eq!(world.there.values().filter(|(_, key)| is_found(&key.sealed)).count(), 300);
        for (batch, (_, key)) in &world.there {
            let kept = world.store.read(|connection| of(connection, *batch)).expect("it is there");
            assert_eq!((&kept.key_id, &kept.sealed), (&key.key_id, &key.sealed));
        }
    }

    #[test]
    fn each_key_is_alone_on_a_page_also_when_pages_are_moved() {
        let mut world = World::new(0);
        for _ in 0..20 {
            world.add();
            world.rotate();
        }
        // Half of the pages are free then, and others are moved into their place.
        (0..10).for_each(|_| world.delete());
        let left = world.store.write(|tx| upkeep::give_back_pages(tx, 1_000)).expect("given back");
        assert_eq!((left, world.there.len()), (0, 10));
        let page_bytes = world.number("PRAGMA page_size");
        let file = world.file();
        for (_, key) in world.there.values() {
            let mut with_key = file.chunks(page_bytes).filter_map(|page| {
                let at = page.windows(SEALED_BYTES).position(|window| window == key.sealed)?;
                Some((&page[..at], &page[at + SEALED_BYTES..]))
            });
            let (before, behind) = with_key.next().expect("it is in the file");
            assert!(before.iter().chain(behind).all(|byte| *byte == 0), "something is beside a key");
            assert!(with_key.next().is_none(), "it is there twice");
        }
        let is_found = |key: &Vec<u8>| file.windows(SEALED_BYTES).any(|window| window == key);
        assert!(!world.destroyed.iter().any(is_found));
    }

    /// The arithmetic of the schema's comment, for every record that there can be.
    #[test]
    fn the_padding_reaches_beyond_what_stays_with_the_neighbours() {
        let mut world = World::new(0);
        world.add();
        // At offset 20: bytes at the end of each page that SQLite leaves to extensions.
        let (page_bytes, reserved) = (world.number("PRAGMA page_size"), world.file()[20]);
        let (usable, padding) =
            (page_bytes - usize::from(reserved), world.number("SELECT length(padding) FROM data_keys"));
        let (most, least) = (usable - 35, (usable - 12) * 32 / 255 - 23);
        assert_eq!((usable, padding, most, least), (4096, 4061, 4061, 489));

        let ring = |id: &str| KeyRing::parse(&KeyRing::generate_line(id).expect("a line")).expect("a ring");
        let sealed = ring("k").wrap(&DataKey::generate(), BatchId::random()).sealed.len();
        // The record's header has a byte for its length, one for `batch`, and up to two for each other column.
        for payload in (padding + sealed + 6)..=(padding + sealed + 8 + 64) {
            let local = least + (payload - least) % (usable - 4);
            let local = if local <= most { local } else { least };
            assert_eq!(local, least, "the fewest that SQLite keeps there");
            assert!(payload - local <= usable - 4, "the rest of {payload} fits one page");
        }
    }
}
