//! Everything that waits, added up: what an estimate costs does not depend on how many batches and clients there are.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Add,
};

use super::estimate::Queued;

/// Of more clients than this some stand for all, at equal distances.
const ASKED: usize = 200;

/// All unfinished batches.
#[derive(Debug, Clone, Default)]
pub struct Crowd {
    batches: HashMap<i64, Queued>,
    /// Rows that are not in the work table yet, of each batch and all older ones.
    unextracted: Vec<(i64, u64)>,
    clients: BTreeMap<i64, Client>,
}

/// What of a client's batches moves.
#[derive(Debug, Clone)]
struct Client {
    limit: u32,
    granted: u32,
    /// By the version of their workflow: the rows of each batch and all older ones.
    rows: BTreeMap<i64, Vec<(i64, Rows)>>,
}

/// Rows of several batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Those that nobody has claimed.
    pub pending: u64,
    /// Those under way.
    pub processing: u64,
}

impl Add for Rows {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { pending: self.pending + more.pending, processing: self.processing + more.processing }
    }
}

/// Another client, and all that have to be taken to be like it.
#[derive(Debug)]
pub struct Neighbour<'c> {
    /// How many clients it stands for.
    pub stands_for: f64,
    /// What a run grants it.
    pub limit: u32,
    /// What is left of its last grant.
    pub granted: u32,
    rows: &'c BTreeMap<i64, Vec<(i64, Rows)>>,
}

impl Neighbour<'_> {
    /// Its rows, by the version of their workflow.
    pub fn rows(&self) -> impl Iterator<Item = (i64, Rows)> {
        self.rows.iter().filter_map(|(version, sums)| Some((*version, sums.last()?.1)))
    }
}

impl Crowd {
    /// Of these batches.
    pub fn of(mut queue: Vec<Queued>) -> Self {
        queue.sort_unstable_by_key(|batch| batch.batch);
        let mut crowd = Self::default();
        let mut unextracted = 0;
        for batch in queue {
            unextracted += batch.unextracted;
            crowd.unextracted.push((batch.batch, unextracted));
            if !batch.is_paused {
                crowd.add(&batch);
            }
            crowd.batches.insert(batch.batch, batch);
        }
        crowd
    }

    /// One more, younger than those that are there.
    fn add(&mut self, batch: &Queued) {
        let Queued { client, limit, granted, .. } = *batch;
        let client = self.clients.entry(client).or_insert(Client { limit, granted, rows: BTreeMap::new() });
        let sums = client.rows.entry(batch.workflow_version).or_default();
        let before = sums.last().map_or(Rows::default(), |(_, rows)| *rows);
        sums.push((batch.batch, before + Rows { pending: batch.pending, processing: batch.processing }));
    }

    /// The batch with this key.
    pub fn get(&self, batch: i64) -> Option<&Queued> {
        self.batches.get(&batch)
    }

    /// Rows of batches that are older than this one, and not in the work table yet.
    pub fn unextracted_before(&self, batch: i64) -> u64 {
        let place = self.unextracted.partition_point(|(of, _)| *of < batch);
        place.checked_sub(1).map_or(0, |place| self.unextracted[place].1)
    }

    /// The rows of a client's batches that move and are older than this one, by the version of their workflow.
    pub fn elders(&self, client: i64, batch: i64) -> impl Iterator<Item = (i64, Rows)> {
        let sums = self.clients.get(&client).into_iter().flat_map(|client| &client.rows);
        sums.filter_map(move |(version, sums)| {
            let place = sums.partition_point(|(of, _)| *of < batch).checked_sub(1)?;
            Some((*version, sums[place].1))
        })
    }

    /// Other clients with batches that move.
    pub fn neighbours(&self, client: i64) -> impl Iterator<Item = Neighbour<'_>> {
        let others = self.clients.len() - usize::from(self.clients.contains_key(&client));
        let apart = others.div_ceil(ASKED).max(1);
        let stands_for = others as f64 / others.div_ceil(apart).max(1) as f64;
        let all = self.clients.iter().filter(move |(other, _)| **other != client).step_by(apart);
        all.map(move |(_, it)| Neighbour { stands_for, limit: it.limit, granted: it.granted, rows: &it.rows })
    }

    /// How many batches there are.
    pub fn size(&self) -> usize {
        self.batches.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(batch: i64, client: i64, version: i64, pending: u64) -> Queued {
        Queued {
            batch,
            client,
            workflow_version: version,
            pending,
            processing: 1,
            unextracted: pending,
            is_paused: false,
            limit: 10,
            granted: 5,
        }
    }

    #[test]
    fn what_is_older_is_added_up_by_client_and_version() {
        let paused = Queued { is_paused: true, ..batch(4, 1, 1, 1_000) };
        let crowd =
            Crowd::of(vec![batch(9, 1, 1, 70), paused, batch(2, 2, 1, 20), batch(1, 1, 1, 10), batch(5, 1, 2, 50)]);
        let elders = |client, before| crowd.elders(client, before).collect::<Vec<_>>();
        let rows = |pending, processing| Rows { pending, processing };
        assert_eq!(elders(1, 9), [(1, rows(10, 1)), (2, rows(50, 1))]);
        assert_eq!(elders(1, i64::MAX), [(1, rows(80, 2)), (2, rows(50, 1))]);
        assert_eq!((elders(1, 1), elders(2, 2), elders(7, 9)), (vec![], vec![], vec![]));
        assert_eq!([1, 2, 5, 9].map(|batch| crowd.unextracted_before(batch)), [0, 10, 1_030, 1_080]);
        let neighbours: Vec<_> = crowd.neighbours(1).collect();
        assert_eq!((neighbours.len(), neighbours[0].stands_for), (1, 1.0));
        assert_eq!(neighbours[0].rows().collect::<Vec<_>>(), [(1, rows(20, 1))]);
    }

    #[test]
    fn of_many_clients_some_stand_for_all() {
        for clients in [1, 2, 200, 201, 399, 3_000] {
            let crowd = Crowd::of((0..clients).map(|client| batch(client, client, 1, 1)).collect());
            let (asked, stand_for) =
                crowd.neighbours(0).fold((0, 0.0), |(asked, sum), it| (asked + 1, sum + it.stands_for));
            assert!(asked <= ASKED && (stand_for - (clients - 1) as f64).abs() < 1e-6, "{asked} for {stand_for}");
        }
    }
}
