//! Connections that are kept for the next call. The newest is taken first, so that what is not needed grows old, and what
//! is old is not used again: servers close connections that rest, and some do it just as a request leaves. What grows old
//! without a call is closed all the same.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::wire::Connection;
use crate::clock::Clock;

/// How often it is looked at least and at most for those that are old, or that their server has closed.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// The connections of one dependency that rest.
pub(super) struct Pool {
    resting: Arc<Mutex<Resting>>,
    most: usize,
    max_idle: Duration,
    clock: Clock,
}

#[derive(Default)]
struct Resting {
    /// Since when each rests, in steady time; the newest is the last.
    connections: Vec<(i64, Connection)>,
    /// Whether somebody closes them when they are old.
    is_swept: bool,
}

impl Pool {
    /// For at most so many, none of which rests for longer than `max_idle`.
    pub(super) fn new(most: usize, max_idle: Duration, clock: Clock) -> Self {
        Self { resting: Arc::default(), most, max_idle, clock }
    }

    /// The connection that was used last, if it leads to where the name leads now and can be used.
    pub(super) fn take(&self, moves: u64) -> Option<Connection> {
        let mut resting = locked(&self.resting);
        resting.let_go(self.clock.steady(), self.max_idle);
        // Only as many are looked at as it takes to find one.
        while let Some((_, mut connection)) = resting.connections.pop() {
            if connection.moves == moves && connection.rests() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes all of them.
    pub(super) fn clear(&self) {
        locked(&self.resting).connections.clear();
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.is_kept = true;
        let mut resting = locked(&self.resting);
        resting.connections.push((self.clock.steady(), connection));
        let superfluous = resting.connections.len().saturating_sub(self.most);
        // The oldest go.
        resting.connections.drain(..superfluous);
        if !std::mem::replace(&mut resting.is_swept, true) {
            let (resting, max_idle, clock) = (Arc::downgrade(&self.resting), self.max_idle, self.clock.clone());
            tokio::spawn(sweep(resting, max_idle, clock));
        }
    }
}

impl Resting {
    fn let_go(&mut self, now: i64, max_idle: Duration) {
        let is_old = |since: i64| now.saturating_sub(since) > nanos(max_idle);
        let too_old = self.connections.partition_point(|(since, _)| is_old(*since));
        self.connections.drain(..too_old);
    }
}

/// Closes what has grown old or was closed by its server, as long as anything rests.
async fn sweep(resting: Weak<Mutex<Resting>>, max_idle: Duration, clock: Clock) {
    loop {
        tokio::time::sleep(max_idle.clamp(SHORTEST_LOOK, LONGEST_LOOK)).await;
        let Some(resting) = resting.upgrade() else { return };
        let mut resting = locked(&resting);
        resting.let_go(clock.steady(), max_idle);
        resting.connections.retain_mut(|(_, connection)| connection.rests());
        if resting.connections.is_empty() {
            resting.is_swept = false;
            return;
        }
    }
}

fn locked(resting: &Mutex<Resting>) -> MutexGuard<'_, Resting> {
    resting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
