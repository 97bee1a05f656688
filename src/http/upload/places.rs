//! Uploads under way: so many at once, of each client and over all, and who has to make way.
//!
//! Each has a thread and memory of its own until it ends, so there are few. An upload may be slow, and for as long as
//! nobody else waits it is left alone (down to [`crate::http::pace::LEAST_RATE`]). Where all places are taken, and somebody
//! comes who has fewer than another client, the slowest one ends of those that trickle, or that we have waited for long enough.
//! Who has none and was turned away is remembered, and has the next place before all who came later. The last place is for a
//! client that has none. So no client keeps another out, however slowly it sends, and however many there are.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::unfold};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::BUSY_RETRY_SECONDS;
use crate::{
    config::Uploads,
    http::body::{Body, BrokenBody},
};

/// An upload that brings less than this a second makes way for one of somebody who has fewer.
const MAKES_WAY_BELOW: u64 = 64 * 1024;
/// It is not judged before it was waited for so long.
const JUDGED_AFTER: Duration = Duration::from_secs(5);
/// How long a place may take to come free that somebody has to give up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(5);

/// A client that was turned away is remembered for so long: three times as long as it is told to stay away.
const REMEMBERED: Duration = Duration::from_secs(3 * BUSY_RETRY_SECONDS);
/// Clients that are remembered. Each of them has a key that is good.
const MOST_REMEMBERED: usize = 1_024;

/// The places.
pub struct Places {
    most: usize,
    longest: Duration,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    open: HashMap<u64, Arc<Gauge>>,
    /// Clients that have no place and were turned away, and when last: who was so first is the first one.
    turned_away: VecDeque<(i64, Instant)>,
}

/// How an upload comes in.
struct Gauge {
    client: i64,
    bytes: AtomicU64,
    /// How long it was waited for, in milliseconds.
    waited: AtomicU64,
    /// Its body has come to its end: the rest is up to us.
    is_whole: AtomicBool,
    make_way: Notify,
}

/// A place that is taken until this is dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    gauge: Arc<Gauge>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The client has as many as it may have.
    OfClient,
    /// All are taken.
    OfAll,
}

/// What an upload that found no place can do.
enum Try {
    Never(NoPlace),
    /// One is going to be given up.
    Soon,
}

impl Places {
    /// As many as are configured.
    pub fn new(config: &Uploads) -> Arc<Self> {
        Arc::new(Self { most: config.at_once, longest: config.longest, state: Mutex::default(), freed: Notify::new() })
    }

    /// A place for an upload of this client, which may have so many at once, where one is free, or comes free soon.
    pub async fn take(self: &Arc<Self>, client: i64, of_client: u32) -> Result<Place, NoPlace> {
        let until = Instant::now() + GIVEN_UP_WITHIN;
        loop {
            let freed = self.freed.notified();
            match self.try_take(client, of_client) {
                Ok(place) => return Ok(place),
                Err(Try::Never(why)) => return Err(why),
                Err(Try::Soon) => {
                    let left = until.saturating_duration_since(Instant::now());
                    timeout(left, freed).await.map_err(|_| NoPlace::OfAll)?;
                }
            }
        }
    }

    fn try_take(self: &Arc<Self>, client: i64, of_client: u32) -> Result<Place, Try> {
        let mut state = self.state();
        let own = state.of(client);
        if own >= of_client as usize {
            return Err(Try::Never(NoPlace::OfClient));
        }
        let free = self.most.saturating_sub(state.open.len());
        if free > state.kept_from(client, own, self.most) {
            let (id, gauge) = state.open_for(client);
            return Ok(Place { places: self.clone(), id, gauge });
        }
        if own == 0 {
            state.turns_away(client);
        }
        let slowest = state.slowest_of_others(own, self.longest).ok_or(Try::Never(NoPlace::OfAll))?;
        slowest.make_way.notify_one();
        Err(Try::Soon)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many places a client has.
    fn of(&self, client: i64) -> usize {
        self.open.values().filter(|gauge| gauge.client == client).count()
    }

    /// How many free places are not for this client, which has so many: those of whoever was turned away before, and the last
    /// one, where it has another.
    fn kept_from(&mut self, client: i64, own: usize, most: usize) -> usize {
        self.turned_away.retain(|(_, last)| last.elapsed() < REMEMBERED);
        let place = self.turned_away.iter().position(|(other, _)| *other == client);
        let is_last_kept = own > 0 && most > 1;
        place.unwrap_or(self.turned_away.len()) + usize::from(is_last_kept)
    }

    fn open_for(&mut self, client: i64) -> (u64, Arc<Gauge>) {
        let (id, gauge) = (self.next, Arc::new(Gauge::of(client)));
        self.next += 1;
        self.open.insert(id, gauge.clone());
        self.turned_away.retain(|(other, _)| *other != client);
        (id, gauge)
    }

    fn turns_away(&mut self, client: i64) {
        let now = Instant::now();
        if let Some((_, last)) = self.turned_away.iter_mut().find(|(other, _)| *other == client) {
            *last = now;
        } else if self.turned_away.len() < MOST_REMEMBERED {
            self.turned_away.push_back((client, now));
        }
    }

    /// The slowest upload that can be asked to make way for somebody who has so many.
    fn slowest_of_others(&self, own: usize, longest: Duration) -> Option<&Arc<Gauge>> {
        let others = self.open.values().filter(|gauge| self.of(gauge.client) > own);
        let able = others.filter_map(|gauge| Some((gauge.makes_way(longest)?, gauge)));
        able.min_by_key(|(rate, _)| *rate).map(|(_, gauge)| gauge)
    }
}

impl Gauge {
    fn of(client: i64) -> Self {
        Self {
            client,
            bytes: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            is_whole: AtomicBool::new(false),
            make_way: Notify::new(),
        }
    }

    /// Its bytes a second, where they are too few for somebody else to wait for, or where it was waited for so long.
    fn makes_way(&self, longest: Duration) -> Option<u64> {
        let waited = self.waited.load(Ordering::SeqCst);
        let is_late = waited >= longest.as_millis() as u64;
        if self.is_whole.load(Ordering::SeqCst) || (waited < JUDGED_AFTER.as_millis() as u64 && !is_late) {
            return None;
        }
        let rate = self.bytes.load(Ordering::SeqCst).saturating_mul(1_000) / waited.max(1);
        Some(rate).filter(|rate| is_late || *rate < MAKES_WAY_BELOW)
    }

    /// The next piece, unless it has to make way before.
    async fn next(&self, body: &mut Body) -> Option<Result<bytes::Bytes, BrokenBody>> {
        let mut since = Instant::now();
        let mut count = |bytes: usize| {
            let waited = since.elapsed();
            // What is less than a millisecond is kept for the next time.
            let millis = waited.as_millis() as u64;
            since += Duration::from_millis(millis);
            self.waited.fetch_add(millis, Ordering::SeqCst);
            self.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        };
        loop {
            tokio::select! {
                biased;
                () = self.make_way.notified() => return Some(Err(BrokenBody::MadeWay)),
                piece = body.next() => {
                    count(piece.as_ref().map_or(0, |piece| piece.as_ref().map_or(0, bytes::Bytes::len)));
                    self.is_whole.store(!matches!(piece, Some(Ok(_))), Ordering::SeqCst);
                    return piece;
                }
                // While nothing comes, the time is counted all the same.
                () = tokio::time::sleep(JUDGED_AFTER / 10) => count(0),
            }
        }
    }
}

impl Place {
    /// The body of the upload that this place is for, which ends early where it has to make way.
    pub fn watched(&self, body: Body) -> Body {
        let gauge = self.gauge.clone();
        let pieces = unfold(Some((body, gauge)), |state| async {
            let (mut body, gauge) = state?;
            let piece = gauge.next(&mut body).await?;
            let goes_on = piece.is_ok().then_some((body, gauge));
            Some((piece, goes_on))
        });
        Box::pin(pieces.fuse())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state().open.remove(&self.id);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(work)
    }

    /// What a client may have, where that does not matter.
    const MANY: u32 = 100;

    fn so_many(at_once: usize) -> Arc<Places> {
        Places::new(&Uploads { at_once, longest: Duration::from_secs(600) })
    }

    /// As if it had brought so many bytes a second for a minute.
    fn at_rate(place: &Place, rate: u64) {
        place.gauge.waited.store(60_000, Ordering::SeqCst);
        place.gauge.bytes.store(60 * rate, Ordering::SeqCst);
    }

    fn silent() -> Body {
        Box::pin(futures_util::stream::pending())
    }

    #[test]
    fn no_client_takes_the_last_place_that_has_another() {
        run(async {
            let places = so_many(3);
            let _first = places.take(1, MANY).await.expect("a place");
            let _second = places.take(1, MANY).await.expect("another");
            assert!(places.take(1, MANY).await.is_err());
            let _other = places.take(2, MANY).await.expect("the last one");
            assert!(places.take(3, MANY).await.is_err(), "nothing trickles");
            let alone = so_many(1);
            assert!(alone.take(1, MANY).await.is_ok(), "an only place is anybody's");
        });
    }

    #[test]
    fn no_client_takes_more_than_it_may_have_and_others_are_not_held_up() {
        run(async {
            let places = so_many(8);
            let first = places.take(1, 2).await.expect("a place");
            let _second = places.take(1, 2).await.expect("another");
            assert_eq!(places.take(1, 2).await.err(), Some(NoPlace::OfClient));
            let _other = places.take(2, 2).await.expect("another client's");
            drop(first);
            assert!(places.take(1, 2).await.is_ok());
        });
    }

    #[test]
    fn the_slowest_one_that_trickles_makes_way_for_somebody_who_has_fewer() {
        run(async {
            let places = so_many(3);
            let mut held = Vec::new();
            for (client, rate) in [(1, 8_000), (1, 4_000), (2, 1_000_000)] {
                let place = places.take(client, MANY).await.expect("a place");
                at_rate(&place, rate);
                held.push(place);
            }
            assert!(places.take(1, MANY).await.is_err(), "who has most makes nobody wait");
            let mut slowest = held[1].watched(silent());
            let mut slow = held[0].watched(silent());
            let gives_way = async {
                let ended = slowest.next().await;
                assert!(matches!(ended, Some(Err(BrokenBody::MadeWay))), "{ended:?}");
                assert!(slowest.next().await.is_none());
                drop(held.remove(1));
            };
            let (place, ()) = tokio::join!(places.take(3, MANY), gives_way);
            let _third = place.expect("its place");
            let stays = timeout(Duration::from_millis(20), slow.next()).await;
            assert!(stays.is_err(), "only one makes way: {stays:?}");
        });
    }

    #[test]
    fn what_comes_whole_or_fast_stays() {
        run(async {
            let places = so_many(2);
            let (whole, fast) =
                (places.take(1, MANY).await.expect("a place"), places.take(2, MANY).await.expect("a place"));
            let piece: Body = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"all of it"))]));
            let mut body = whole.watched(piece);
            assert!(body.next().await.is_some_and(|piece| piece.is_ok()) && body.next().await.is_none());
            at_rate(&whole, 1);
            at_rate(&fast, MAKES_WAY_BELOW);
            assert!(places.take(3, MANY).await.is_err());
        });
    }

    #[test]
    fn what_was_waited_for_long_enough_makes_way_however_fast_it_is() {
        run(async {
            let places = so_many(2);
            let mut held = Vec::new();
            for client in [1, 2] {
                let place = places.take(client, MANY).await.expect("a place");
                at_rate(&place, MAKES_WAY_BELOW * (2 + client as u64));
                held.push(place);
            }
            assert_eq!(places.take(3, MANY).await.err(), Some(NoPlace::OfAll), "neither is late");
            for place in &held {
                place.gauge.waited.store(600_000, Ordering::SeqCst);
                place.gauge.bytes.fetch_add(1, Ordering::SeqCst);
            }
            let mut slower = held[0].watched(silent());
            let gives_way = async {
                assert!(matches!(slower.next().await, Some(Err(BrokenBody::MadeWay))));
                drop(held.remove(0));
            };
            let (place, ()) = tokio::join!(places.take(3, MANY), gives_way);
            let _third = place.expect("the place of the slower one");
        });
    }

    #[test]
    fn who_was_turned_away_has_the_next_place_before_those_who_came_later() {
        run(async {
            let places = so_many(2);
            let first = places.take(1, MANY).await.expect("a place");
            let second = places.take(2, MANY).await.expect("another");
            for client in [3, 4, 3] {
                assert_eq!(places.take(client, MANY).await.err(), Some(NoPlace::OfAll));
            }
            drop(first);
            for other in [1, 2, 4, 5] {
                assert_eq!(places.take(other, MANY).await.err(), Some(NoPlace::OfAll), "it is kept for another");
            }
            let third = places.take(3, MANY).await.expect("the next place");
            drop((second, third));
            let _fourth = places.take(4, MANY).await.expect("the one behind it");
            let _first = places.take(1, MANY).await.expect("who came back is no later than who comes now");
        });
    }
}
