//! Keeps the ready index up to date: made from the database at the start, then told of each change by the table `touched`,
//! whoever made it, this server or a command beside it.
//!
//! The database stays the truth. Every minute it is looked through once more, in pages and off the writer, for rows that the
//! index misses. There should be none: it is told loudly if there are, and mended.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::ready::Index;
use crate::{
    heartbeat,
    model::Timestamp,
    store::{
        Store, StoreError,
        claims::{Left, Wanted},
        grants,
        ready::{self, News, ReadyBatch, ReadyClient},
    },
};

/// Between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Batches that one read looks at: each takes a few look-ups.
const BATCHES_AT_ONCE: u32 = 200;
/// And so long after the last one at the earliest, so that claims go on in between.
const PAGE_EVERY: Duration = Duration::from_millis(20);
/// Changes that are seen are forgotten when there are so many of them.
const FORGET_FROM: i64 = 1_000;

/// Who knows the workflows that batches keep.
pub trait Versions {
    /// The dependencies that a version's steps call, in their order; `None` where its rows cannot be worked.
    fn dependencies(&self, version: i64) -> Option<Vec<String>>;
}

/// The index, and how far it has news.
pub struct Hearing {
    /// The index.
    pub index: Index,
    /// The last change that it knows of.
    seen: i64,
    /// Changes before this one are gone.
    forgotten: i64,
    /// Where the look at everything stands: behind this client and batch.
    looked_at: Option<(i64, i64)>,
    next_look: Instant,
}

impl Hearing {
    /// Makes the index from what is there.
    pub fn begin(store: &Store, versions: &impl Versions) -> Result<Self, StoreError> {
        let seen = store.read(ready::last_change)?;
        let next_look = Instant::now() + LOOK_EVERY;
        let mut hearing = Self { index: Index::default(), seen, forgotten: 0, looked_at: None, next_look };
        let is_paused = store.read(grants::pause_of)?.is_some();
        let clients = store.read(ready::clients)?;
        hearing.index.set_paused(is_paused);
        let mut after = (0, 0);
        loop {
            let page = store.read(|connection| ready::page(connection, after, BATCHES_AT_ONCE))?;
            let Some(last) = page.last() else { break };
            after = (last.client, last.batch);
            page.iter().for_each(|batch| hearing.put(versions, batch));
            heartbeat::beat();
        }
        hearing.set_clients(&clients);
        Ok(hearing)
    }

    /// Takes in everything that was changed since.
    pub fn hear(&mut self, store: &Store, versions: &impl Versions) -> Result<(), StoreError> {
        loop {
            let (seen, index) = (self.seen, &self.index);
            let knows = |client| index.knows_client(client);
            let news = store.read(|connection| ready::news(connection, seen, knows))?;
            let is_all = news.is_all;
            let unknown = self.take_in(versions, news);
            self.look_at(store, versions, unknown)?;
            if is_all {
                return Ok(());
            }
        }
    }

    /// Reads these batches, and their clients.
    fn look_at(&mut self, store: &Store, versions: &impl Versions, batches: BTreeSet<i64>) -> Result<(), StoreError> {
        if !batches.is_empty() {
            let news = store.read(|connection| ready::news_of(connection, batches))?;
            self.take_in(versions, News { seen: self.seen, ..news });
        }
        Ok(())
    }

    /// Says of which batches rows wait that nothing else is known of.
    fn take_in(&mut self, versions: &impl Versions, news: News) -> BTreeSet<i64> {
        self.seen = news.seen;
        if let Some(is_paused) = news.is_paused {
            self.index.set_paused(is_paused);
        }
        for (key, batch) in &news.batches {
            match batch {
                Some(batch) => self.put(versions, batch),
                None => self.index.remove(*key),
            }
        }
        self.set_clients(&news.clients);
        let read: BTreeSet<i64> = news.batches.iter().map(|(key, _)| *key).collect();
        let noted = news.waiting.into_iter().filter(|(batch, _)| !read.contains(batch));
        noted.filter_map(|(batch, waiting)| (!self.index.note(batch, waiting)).then_some(batch)).collect()
    }

    fn set_clients(&mut self, clients: &[(i64, ReadyClient)]) {
        let known = clients.iter().filter(|(client, _)| self.index.knows_client(*client));
        let known: Vec<_> = known.copied().collect();
        known.into_iter().for_each(|(client, stands)| self.index.set_client(client, stands));
    }

    /// A batch whose workflow cannot be worked is left out: nothing of it can start.
    fn put(&mut self, versions: &impl Versions, batch: &ReadyBatch) {
        if !self.index.knows_version(batch.version) {
            match versions.dependencies(batch.version).filter(|steps| !steps.is_empty()) {
                Some(dependencies) => self.index.learn(batch.version, &dependencies),
                None => return self.index.remove(batch.batch),
            }
        }
        self.index.put(batch);
    }

    /// What is left of what was planned. Where a batch could not be claimed of it is looked at anew.
    pub fn taken(
        &mut self,
        store: &Store,
        versions: &impl Versions,
        wanted: &[Wanted],
        left: &[Option<Left>],
    ) -> Result<(), StoreError> {
        let mut closed = BTreeSet::new();
        for (wanted, left) in wanted.iter().zip(left) {
            match *left {
                Some(left) => self.index.taken(wanted, left),
                None => drop(closed.insert(wanted.batch)),
            }
        }
        self.look_at(store, versions, closed)
    }

    /// How long nothing changes by itself.
    pub fn quiet_for(&self, now: Timestamp, longest: Duration) -> Duration {
        self.index.next_due().map_or(longest, |due| due.since(now).min(longest))
    }

    /// The changes that can be forgotten, where it is worth it.
    pub fn to_forget(&mut self) -> Option<i64> {
        let is_worth_it = self.seen - self.forgotten >= FORGET_FROM;
        is_worth_it.then(|| std::mem::replace(&mut self.forgotten, self.seen)).map(|_| self.seen)
    }

    /// Looks through a page of everything, where it is time to. How many batches rows were missed of.
    pub fn look(&mut self, store: &Store, versions: &impl Versions, now: Instant) -> Result<usize, StoreError> {
        if now < self.next_look {
            return Ok(0);
        }
        let after = self.looked_at.unwrap_or_default();
        let (missed, last) = self.look_behind(store, versions, after)?;
        self.looked_at = last;
        self.next_look = now + if last.is_some() { PAGE_EVERY } else { LOOK_EVERY };
        if last.is_none() {
            self.index.forget_idle();
        }
        if missed > 0 {
            tracing::warn!(
                event = "ready.mended",
                batches = missed,
                "rows that could start were not known to be there: they would have waited until the next start"
            );
        }
        Ok(missed)
    }

    /// One page behind this client and batch. Everything that was changed by then is taken in before, by the same read.
    fn look_behind(
        &mut self,
        store: &Store,
        versions: &impl Versions,
        after: (i64, i64),
    ) -> Result<(usize, Option<(i64, i64)>), StoreError> {
        self.hear(store, versions)?;
        let (seen, index) = (self.seen, &self.index);
        let knows = |client| index.knows_client(client);
        let (news, page, clients) = store.read(|connection| {
            let news = ready::news(connection, seen, knows)?;
            let page = ready::page(connection, after, BATCHES_AT_ONCE)?;
            let clients = ready::clients_of(connection, &page)?;
            Ok((news, page, clients))
        })?;
        if !news.is_all {
            // So much was changed within this instant that there will be a quieter one.
            return Ok((0, Some(after)));
        }
        let unknown = self.take_in(versions, news);
        let last = page.last().map(|last| (last.client, last.batch));
        // Of those that have just been heard of it is read anew in any case.
        let misses = |batch: &&ReadyBatch| !unknown.contains(&batch.batch) && self.index.misses(batch);
        let missed: Vec<ReadyBatch> = page.iter().filter(misses).cloned().collect();
        missed.iter().for_each(|batch| self.put(versions, batch));
        let mut mended = missed.iter().filter(|batch| self.index.batch(batch.batch).is_some()).count();
        let may_start = |stands: ReadyClient| !stands.is_paused && stands.granted > 0;
        let held =
            clients.iter().filter(|(client, stands)| may_start(*stands) && !may_start(self.index.client(*client)));
        mended += held.filter(|(client, _)| missed.iter().all(|batch| batch.client != *client)).count();
        self.set_clients(&clients);
        self.look_at(store, versions, unknown)?;
        Ok((mended, last))
    }
}
