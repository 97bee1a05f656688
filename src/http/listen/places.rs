//! Connections that are open: how many, of how many each address has some, how much memory they hold of what all of them
//! share, and which of them only wait.
//!
//! A connection on which nothing is under way holds a place for nothing, and so does one that waits for its caller. So nobody
//! is kept out by those who connect and say nothing, or half of something: where all places are taken, the connection goes
//! that waits, of the address that has most of them. Of the memory those give something back on which nothing is asked, and
//! where that is not enough, those that wait, of the address that holds more than whoever asks.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::{config::Limits, http::forwarded::neighbourhood};

/// Places beyond the others, for addresses that have next to none: a probe gets through beside a crowd.
const KEPT_BACK: usize = 32;
/// How many connections of an address are next to none.
const A_FEW: usize = 4;

/// How many connections one listener can have.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Of everybody together.
    all: usize,
    /// Beyond those, of addresses that have next to none.
    kept_back: usize,
    /// Of all, those of one address.
    of_one: usize,
}

/// The places.
pub struct Places {
    most: Most,
    /// How many bytes all of them can hold.
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    /// Connections of each address that has any, and is held to a limit.
    of: HashMap<IpAddr, usize>,
    /// What all of them hold.
    bytes: usize,
}

struct Open {
    /// `None`: a proxy that is believed, behind which anybody may be.
    address: Option<IpAddr>,
    stands: Stands,
    bytes: usize,
    close: Arc<Notify>,
}

/// What a connection does, and since when.
#[derive(Clone, Copy)]
enum Stands {
    /// Something is under way on it, and it is up to us.
    Works,
    /// It is up to its caller: something has to come, or to be taken.
    Waits(Instant),
    /// Nothing is asked on it.
    Rests(Instant),
}

/// A place that is taken until this is dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    /// Told when the connection has to go.
    close: Arc<Notify>,
}

impl Most {
    /// As it is configured.
    pub fn configured(limits: &Limits) -> Self {
        Self { all: limits.connections, kept_back: KEPT_BACK, of_one: limits.connections_per_address }
    }

    /// How many can be open in the end.
    pub fn open(self) -> usize {
        self.all + self.kept_back
    }

    /// The same where no more than so many can be open. If that is fewer, no address has more than half of them.
    pub fn within(self, open: usize) -> Self {
        if self.open() <= open {
            return self;
        }
        let kept_back = self.kept_back.min(open / 4);
        let all = open - kept_back;
        Self { all, kept_back, of_one: self.of_one.min((all / 2).max(A_FEW)) }
    }
}

impl Places {
    /// For so many connections, and so many bytes for all of them.
    pub fn new(most: Most, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { most, most_bytes, state: Mutex::default() })
    }

    /// A place for a connection, which begins by resting; `None` where it cannot be had. `address`: `None` for a proxy
    /// that is believed.
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Option<Place> {
        let address = address.map(neighbourhood);
        let mut state = self.state();
        let has = address.map_or(0, |address| state.count(address));
        if has >= self.most.of_one && !state.make_room(|open| open.address == address) {
            return None;
        }
        let few = address.is_none() || has < A_FEW;
        let most = if few { self.most.open() } else { self.most.all };
        if state.open.len() >= self.most.all && !state.make_room(|_| true) && state.open.len() >= most {
            return None;
        }
        let (id, close) = (state.next, Arc::new(Notify::new()));
        state.next += 1;
        state.open.insert(id, Open { address, stands: Stands::Rests(now), bytes: 0, close: close.clone() });
        if let Some(address) = address {
            *state.of.entry(address).or_default() += 1;
        }
        Some(Place { places: self.clone(), id, close })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&self, address: IpAddr) -> usize {
        self.of.get(&address).copied().unwrap_or(0)
    }

    /// Closes one of these connections that does not work: of the address that has most, the one that waits longest.
    fn make_room(&mut self, of: impl Fn(&Open) -> bool) -> bool {
        let waiting = self.open.iter().filter(|(_, open)| of(open));
        let waiting = waiting.filter_map(|(id, open)| {
            let has = open.address.map_or(0, |address| self.count(address));
            Some((*id, (has, Reverse(open.stands.since()?))))
        });
        let longest = waiting.max_by_key(|(_, rank)| *rank).map(|(id, _)| id);
        self.close(longest)
    }

    /// Closes a connection that holds bytes, so that this one can have so many more: one that rests, or else one that waits,
    /// of somebody who holds more than that. Of those who hold most it is the one that does so longest.
    fn make_bytes(&mut self, id: u64, more: usize) -> bool {
        let mut held: HashMap<Result<IpAddr, u64>, usize> = HashMap::new();
        for (id, open) in &self.open {
            *held.entry(open.whose(*id)).or_default() += open.bytes;
        }
        let holds = |id: u64, open: &Open| held.get(&open.whose(id)).copied().unwrap_or(0);
        let Some(asks) = self.open.get(&id).map(|open| holds(id, open) + more) else { return false };
        let able = self.open.iter().filter(|(other, open)| **other != id && open.bytes > 0);
        let able = able.filter_map(|(id, open)| {
            let (rests, holds) = (matches!(open.stands, Stands::Rests(_)), holds(*id, open));
            let since = open.stands.since().filter(|_| rests || holds > asks)?;
            Some((*id, (rests, holds, Reverse(since))))
        });
        let longest = able.max_by_key(|(_, rank)| *rank).map(|(id, _)| id);
        self.close(longest)
    }

    fn close(&mut self, id: Option<u64>) -> bool {
        let closed = id.and_then(|id| self.remove(id));
        closed.inspect(|open| open.close.notify_one()).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.bytes -= open.bytes;
        if let Some(address) = open.address
            && let Some(count) = self.of.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&address);
            }
        }
        Some(open)
    }
}

impl Open {
    /// Whose bytes these are: its address's, or, where anybody may be behind it, its own.
    fn whose(&self, id: u64) -> Result<IpAddr, u64> {
        self.address.ok_or(id)
    }
}

impl Stands {
    /// Since when it does not work.
    fn since(self) -> Option<Instant> {
        match self {
            Self::Works => None,
            Self::Waits(since) | Self::Rests(since) => Some(since),
        }
    }
}

impl Place {
    /// Ends when somebody else needs the place more.
    pub async fn given_up(&self) {
        self.close.notified().await;
    }

    /// Something is under way, and it is up to us; `false` where the place was given up.
    pub fn works(&self) -> bool {
        self.stands(Stands::Works)
    }

    /// It is up to the caller since then; `false` where the place was given up.
    pub fn waits(&self, since: Instant) -> bool {
        self.stands(Stands::Waits(since))
    }

    /// Nothing is asked since then; `false` where the place was given up.
    pub fn rests(&self, since: Instant) -> bool {
        self.stands(Stands::Rests(since))
    }

    fn stands(&self, stands: Stands) -> bool {
        self.places.state().open.get_mut(&self.id).map(|open| open.stands = stands).is_some()
    }

    /// Whether it may hold so many bytes in all, which it does from then on.
    pub fn may_hold(&self, bytes: usize) -> bool {
        let mut state = self.places.state();
        loop {
            let held = state.bytes;
            // It is not there any more where it was given up.
            let Some(open) = state.open.get_mut(&self.id) else { return false };
            if let Stands::Rests(since) = open.stands {
                open.stands = Stands::Waits(since);
            }
            let more = bytes.saturating_sub(open.bytes);
            if held + more <= self.places.most_bytes {
                open.bytes += more;
                state.bytes += more;
                return true;
            }
            if !state.make_bytes(self.id, more) {
                return false;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([203, 0, 113, last]))
    }

    fn places(all: usize, of_one: usize, most_bytes: usize) -> Arc<Places> {
        Places::new(Most { all, kept_back: KEPT_BACK, of_one }, most_bytes)
    }

    fn is_closed(place: &Place) -> bool {
        !place.places.state().open.contains_key(&place.id)
    }

    #[test]
    fn silent_connections_make_way_and_those_at_work_do_not() {
        let (places, now) = (places(4, 3, 0), Instant::now());
        let take = |last, at| places.take(address(last), now + Duration::from_secs(at));
        let crowd: Vec<_> = (0..3).map(|at| take(1, at).expect("a place")).collect();
        let other = take(2, 3).expect("a place");
        assert!(crowd[0].works());

        let new = take(3, 4).expect("a silent one makes way");
        assert!(is_closed(&crowd[1]), "the one of the crowd that waited longest");
        assert!(!is_closed(&crowd[0]) && !is_closed(&crowd[2]) && !is_closed(&other) && !is_closed(&new));
        let again = take(1, 5).expect("a place");
        assert!(is_closed(&crowd[2]) && !is_closed(&again), "its own go first");
    }

    #[test]
    fn an_address_has_its_share_and_the_last_places_are_for_those_with_few() {
        let (places, now) = (places(6, 5, 0), Instant::now());
        let busy = |place: Place| {
            assert!(place.works());
            place
        };
        let mut held: Vec<_> = (0..5).map(|_| busy(places.take(address(1), now).expect("a place"))).collect();
        assert!(places.take(address(1), now).is_none(), "an address that has its share");
        held.push(busy(places.take(address(2), now).expect("a place")));
        for last in 2..6 {
            held.extend((0..2).map(|_| busy(places.take(address(last), now).expect("a kept-back place"))));
        }
        held.pop();
        drop(held.swap_remove(0));
        assert!(places.take(address(1), now).is_none(), "it has too many for one of those kept back");
        assert!(places.take(None, now).is_some(), "a proxy");
        held.clear();
        assert!(places.state().open.is_empty() && places.state().of.is_empty());
    }

    #[test]
    fn where_fewer_can_be_open_all_parts_are_smaller_and_no_address_has_most_of_them() {
        let most = Most { all: 1_024, kept_back: KEPT_BACK, of_one: 128 };
        let told = |most: Most| (most.all, most.kept_back, most.of_one);
        assert_eq!(told(most.within(most.open())), (1_024, 32, 128), "as configured");
        assert_eq!(told(most.within(1_000)), (968, 32, 128));
        assert_eq!(told(most.within(74)), (56, 18, 28));
    }

    #[test]
    fn kept_back_places_come_to_an_end() {
        let (places, now) = (places(1, 1, 0), Instant::now());
        let mut held = Vec::new();
        for last in 0..=255 {
            held.extend(places.take(address(last), now).inspect(|place| assert!(place.works())));
        }
        assert_eq!(held.len(), 1 + KEPT_BACK);
    }

    #[test]
    fn what_waits_for_its_caller_makes_way_like_what_says_nothing() {
        let (places, now) = (places(2, 2, 0), Instant::now());
        let [half, whole] = [1, 2].map(|last| places.take(address(last), now).expect("a place"));
        assert!(half.works() && whole.works() && half.waits(now));
        let _new = places.take(address(3), now).expect("what is half sent makes way");
        assert!(is_closed(&half) && !is_closed(&whole));
        assert!(!half.works(), "it hears that it did");
    }

    #[test]
    fn bytes_are_given_back_by_those_who_rest_and_by_those_who_hold_most() {
        let (places, now) = (places(100, 100, 100), Instant::now());
        let take = |last, at| places.take(address(last), now + Duration::from_secs(at)).expect("a place");
        let (first, second, third) = (take(1, 0), take(1, 1), take(1, 2));
        assert!(first.may_hold(40) && second.may_hold(40) && second.may_hold(30), "it does not hold less again");
        assert!(!third.may_hold(21), "who holds most gets no more");
        assert!(third.may_hold(20) && places.state().bytes == 100);

        let other = take(2, 3);
        assert!(other.may_hold(30), "who holds less gets some of theirs");
        assert!(is_closed(&first) && !is_closed(&second), "of what waits the longest");
        assert!(second.works() && third.works() && !other.may_hold(60), "and nothing of what works");
        assert!(second.rests(now) && third.may_hold(40), "what rests makes way for its own address too");
        assert!(is_closed(&second));
        drop((first, second, third, other));
        assert_eq!(places.state().bytes, 0);
    }
}
