//! Connections that are kept for the next call. The newest is taken first, so that what is not needed grows old, and what
//! is old is not used again: servers close connections that rest, and some do it just as a request leaves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;

use super::wire::Counts;
use crate::clock::Clock;

/// A connection, and what is known of it.
pub(super) struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    pub counts: Arc<Counts>,
    /// How often the dependency's name had moved when it was made.
    pub moves: u64,
    /// Whether it was used before.
    pub is_kept: bool,
}

/// The connections of one dependency that rest.
pub(super) struct Pool {
    resting: Mutex<Vec<(i64, Connection)>>,
    most: usize,
    max_idle: Duration,
    clock: Clock,
}

impl Pool {
    /// For at most so many, none of which rests for longer than `max_idle`.
    pub(super) fn new(most: usize, max_idle: Duration, clock: Clock) -> Self {
        Self { resting: Mutex::default(), most, max_idle, clock }
    }

    /// The connection that was used last, if it leads to where the name leads now and can be used.
    pub(super) fn take(&self, moves: u64) -> Option<Connection> {
        let now = self.clock.steady();
        let mut resting = self.resting();
        let is_usable = |(since, connection): &(i64, Connection)| {
            now.saturating_sub(*since) <= nanos(self.max_idle)
                && connection.moves == moves
                && !connection.sender.is_closed()
        };
        resting.retain(is_usable);
        // One that has not ended its last exchange yet will be there for another call.
        let newest = resting.iter().rposition(|(_, connection)| connection.sender.is_ready())?;
        Some(resting.remove(newest).1)
    }

    /// Whether none rests here.
    pub(super) fn is_empty(&self) -> bool {
        self.resting().is_empty()
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.is_kept = true;
        let now = self.clock.steady();
        let mut resting = self.resting();
        resting.push((now, connection));
        let superfluous = resting.len().saturating_sub(self.most);
        // The oldest go.
        resting.drain(..superfluous);
    }

    fn resting(&self) -> MutexGuard<'_, Vec<(i64, Connection)>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
