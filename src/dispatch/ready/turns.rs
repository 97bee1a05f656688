//! Whose turn it is: of each dependency's calls every client gets an equal part.
//!
//! Start-time fair queuing (Goyal, Vin and Cheng, 1996): a client's tag in a lane is the calls that it was given there, and the
//! smallest tag has the next turn. A turn begins at the tag, and nowhere before the last turn that was given in the lane: so
//! nobody saves up turns while nothing of theirs can start. One call costs one; a row costs what its way calls in each
//! lane, and what of that it did not call comes back when it ends.
//!
//! Those who have a turn are sorted by route, which is a version's step with all that comes behind it: what can start there
//! can start for everybody or for nobody. A route without room costs one question, however many wait there.

use std::collections::{BTreeSet, HashMap};

use crate::store::{claims::Kind, ready::ReadyClient};

/// Asked while it is decided what to claim.
pub trait Openings {
    /// Reserves what a row of this version calls from `step` on, if it can be started now. `lying` says how many rows wait
    /// before that step's dependency, and before those of the steps behind it, which are counted from it.
    fn take(&mut self, version: i64, step: u32, lying: impl Fn(usize) -> usize) -> bool;
}

/// Rows whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) client: i64,
    pub(super) batch: i64,
    pub(super) version: i64,
    pub(super) step: u32,
    pub(super) kind: Kind,
}

/// Lanes, routes and clients.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// One a dependency.
    lanes: Vec<Lane>,
    names: HashMap<String, usize>,
    routes: Vec<Route>,
    /// The routes of a version's steps, in their order.
    versions: HashMap<i64, Vec<usize>>,
    clients: HashMap<i64, Client>,
    /// Clients that have no turn.
    full: BTreeSet<i64>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Where the last turn began.
    time: u64,
    /// Those of its routes on which somebody has a turn.
    routes: BTreeSet<usize>,
    /// Rows that wait before it: that were worked on, and have their next call here.
    lying: usize,
}

#[derive(Debug)]
struct Route {
    version: i64,
    step: u32,
    /// Of its calls, in their order.
    lanes: Vec<usize>,
    /// How many calls its rows make in which lanes.
    calls: Vec<(usize, u64)>,
    /// Tag and client.
    turns: BTreeSet<(u64, i64)>,
}

impl Route {
    /// Of its first call.
    fn lane(&self) -> usize {
        self.lanes[0]
    }
}

/// What a client was given in a lane.
#[derive(Debug, Default, Clone, Copy)]
struct Account {
    /// Calls.
    tag: u64,
    /// Calls that it was charged for and did not make: the next ones cost nothing. They are worth nothing any more once others
    /// went ahead of it: nobody saves them up.
    back: u64,
}

#[derive(Debug, Default)]
struct Client {
    stands: ReadyClient,
    /// Batches that are known of it.
    batches: u32,
    /// By lane; those that are not there are 0.
    accounts: Vec<(usize, Account)>,
    /// What of it could start, by route. A few at most, and there may be tens of thousands of clients: a map would take
    /// a kilobyte for the first one.
    piles: Vec<(usize, Piles)>,
}

/// Batches of which rows could start.
#[derive(Debug, Default)]
struct Piles {
    prepaid: BTreeSet<i64>,
    /// What spends a grant.
    spending: BTreeSet<(i64, Kind)>,
    /// The tag under which it has a turn.
    tag: Option<u64>,
}

impl Piles {
    /// The first one: of the oldest batch, and those before others that spend nothing.
    fn first(&self, granted: u32) -> Option<(i64, Kind)> {
        let prepaid = self.prepaid.first().map(|batch| (*batch, Kind::Prepaid));
        let spending = self.spending.first().copied().filter(|_| granted > 0);
        prepaid.into_iter().chain(spending).min()
    }

    fn is_empty(&self) -> bool {
        self.prepaid.is_empty() && self.spending.is_empty() && self.tag.is_none()
    }
}

impl Client {
    fn tag(&self, lane: usize) -> u64 {
        self.accounts.iter().find(|(of, _)| *of == lane).map_or(0, |(_, account)| account.tag)
    }

    fn account(&mut self, lane: usize) -> &mut Account {
        let place = self.accounts.iter().position(|(of, _)| *of == lane).unwrap_or_else(|| {
            self.accounts.reserve_exact(1);
            self.accounts.push((lane, Account::default()));
            self.accounts.len() - 1
        });
        &mut self.accounts[place].1
    }

    fn piles(&mut self, route: usize) -> Option<&mut Piles> {
        self.piles.iter_mut().find(|(of, _)| *of == route).map(|(_, piles)| piles)
    }

    fn add_piles(&mut self, route: usize) {
        if self.piles(route).is_none() {
            self.piles.reserve_exact(1);
            self.piles.push((route, Piles::default()));
        }
    }
}

impl Turns {
    /// Whether the steps of this version are known.
    pub(super) fn knows_version(&self, version: i64) -> bool {
        self.versions.contains_key(&version)
    }

    /// A version's steps call these dependencies, in this order.
    pub(super) fn learn(&mut self, version: i64, dependencies: &[String]) {
        let lanes: Vec<usize> = dependencies.iter().map(|name| self.lane(name)).collect();
        let route = |(step, rest): (u32, &[usize])| {
            let mut calls: Vec<(usize, u64)> = Vec::new();
            for lane in rest {
                match calls.iter_mut().find(|(of, _)| of == lane) {
                    Some((_, count)) => *count += 1,
                    None => calls.push((*lane, 1)),
                }
            }
            Route { version, step, lanes: rest.to_vec(), calls, turns: BTreeSet::new() }
        };
        let first = self.routes.len();
        self.routes.extend((0..).zip((0..lanes.len()).map(|step| &lanes[step..])).map(route));
        self.versions.insert(version, (first..self.routes.len()).collect());
    }

    fn lane(&mut self, name: &str) -> usize {
        if let Some(lane) = self.names.get(name) {
            return *lane;
        }
        self.lanes.push(Lane::default());
        self.names.insert(name.to_owned(), self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    pub(super) fn knows_client(&self, client: i64) -> bool {
        self.clients.contains_key(&client)
    }

    /// How a client stands, as far as is known.
    pub(super) fn stands(&self, client: i64) -> ReadyClient {
        self.clients.get(&client).map_or(ReadyClient::default(), |known| known.stands)
    }

    pub(super) fn set_client(&mut self, client: i64, stands: ReadyClient) {
        let known = self.clients.entry(client).or_default();
        let turned = (known.stands.is_paused, known.stands.granted > 0) != (stands.is_paused, stands.granted > 0);
        known.stands = stands;
        if turned {
            self.place_all(client);
        }
    }

    /// These have no turn, and those who had none before have theirs again.
    pub(super) fn set_full(&mut self, clients: &BTreeSet<i64>) {
        if self.full == *clients {
            return;
        }
        let before = std::mem::replace(&mut self.full, clients.clone());
        before.symmetric_difference(clients).for_each(|client| self.place_all(*client));
    }

    /// A batch of the client is known, or not any more.
    pub(super) fn count_batch(&mut self, client: i64, is_known: bool) {
        let known = self.clients.entry(client).or_default();
        known.batches = if is_known { known.batches + 1 } else { known.batches.saturating_sub(1) };
    }

    /// So many rows of a version came to wait at a step, or do not any more.
    pub(super) fn lie(&mut self, version: i64, step: u32, rows: u32, is_there: bool) {
        let route = self.versions.get(&version).and_then(|routes| routes.get(step as usize)).copied();
        let Some(route) = route else { return };
        let lane = self.routes[route].lane();
        let lying = &mut self.lanes[lane].lying;
        *lying = if is_there { lying.saturating_add(rows as usize) } else { lying.saturating_sub(rows as usize) };
    }

    /// Rows of a batch could start.
    pub(super) fn add(&mut self, turn: Turn) {
        self.change(turn, true);
    }

    /// No rows of a batch could start there any more.
    pub(super) fn remove(&mut self, turn: Turn) {
        self.change(turn, false);
    }

    fn change(&mut self, turn: Turn, is_there: bool) {
        let Turn { client, batch, version, step, kind } = turn;
        let route = self.versions.get(&version).and_then(|routes| routes.get(step as usize)).copied();
        let Some(route) = route else { return };
        let known = self.clients.entry(client).or_default();
        known.add_piles(route);
        let Some(piles) = known.piles(route) else { return };
        match (kind, is_there) {
            (Kind::Prepaid, true) => piles.prepaid.insert(batch),
            (Kind::Prepaid, false) => piles.prepaid.remove(&batch),
            (_, true) => piles.spending.insert((batch, kind)),
            (_, false) => piles.spending.remove(&(batch, kind)),
        };
        self.place(client, route);
    }

    fn place_all(&mut self, client: i64) {
        let routes: Vec<usize> =
            self.clients.get(&client).iter().flat_map(|it| it.piles.iter().map(|(route, _)| *route)).collect();
        routes.into_iter().for_each(|route| self.place(client, route));
    }

    /// Gives a client the place on a route that it is to have, or none.
    fn place(&mut self, client: i64, route: usize) {
        let is_full = self.full.contains(&client);
        let Some(known) = self.clients.get_mut(&client) else { return };
        let (tag, stands) = (known.tag(self.routes[route].lane()), known.stands);
        let Some(piles) = known.piles(route) else { return };
        let has_turn = !stands.is_paused && !is_full && piles.first(stands.granted).is_some();
        let (was, is) = (piles.tag, has_turn.then_some(tag));
        piles.tag = is;
        if piles.is_empty() {
            known.piles.retain(|(of, _)| *of != route);
        }
        if was == is {
            return;
        }
        let lane = self.routes[route].lane();
        let Route { turns, .. } = &mut self.routes[route];
        was.map(|tag| turns.remove(&(tag, client)));
        is.map(|tag| turns.insert((tag, client)));
        match turns.is_empty() {
            true => self.lanes[lane].routes.remove(&route),
            false => self.lanes[lane].routes.insert(route),
        };
    }

    /// The lanes in which somebody has a turn.
    pub(super) fn lanes(&self) -> Vec<usize> {
        (0..self.lanes.len()).filter(|lane| !self.lanes[*lane].routes.is_empty()).collect()
    }

    /// Gives the next turn in a lane. On routes that are `closed` nothing can start now; those that turn out to be are added.
    pub(super) fn next(
        &mut self,
        lane: usize,
        closed: &mut BTreeSet<usize>,
        openings: &mut impl Openings,
    ) -> Option<Turn> {
        loop {
            let open = self.lanes[lane].routes.iter().filter(|route| !closed.contains(route));
            let (_, client) = open.filter_map(|route| self.routes[*route].turns.first()).min().copied()?;
            let (route, batch, kind) = self.first_pile(client, lane, closed)?;
            let Route { version, step, .. } = self.routes[route];
            let lying = |place: usize| self.routes[route].lanes.get(place).map_or(0, |lane| self.lanes[*lane].lying);
            if openings.take(version, step, lying) {
                self.charge(client, route, kind);
                return Some(Turn { client, batch, version, step, kind });
            }
            closed.insert(route);
        }
    }

    /// Of a client's oldest batch that can go on those that got furthest.
    fn first_pile(&self, client: i64, lane: usize, closed: &BTreeSet<usize>) -> Option<(usize, i64, Kind)> {
        let known = self.clients.get(&client)?;
        let here = known.piles.iter().filter(|(route, piles)| {
            self.routes[*route].lane() == lane && piles.tag.is_some() && !closed.contains(route)
        });
        let first = here.filter_map(|(route, piles)| Some((*route, piles.first(known.stands.granted)?)));
        let order = |(route, (batch, kind)): &(usize, (i64, Kind))| {
            (*batch, std::cmp::Reverse(self.routes[*route].step), *kind)
        };
        first.min_by_key(order).map(|(route, (batch, kind))| (route, batch, kind))
    }

    fn charge(&mut self, client: i64, route: usize, kind: Kind) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        let (first, Route { calls, .. }) = (self.routes[route].lane(), &self.routes[route]);
        for (lane, calls) in calls {
            let time = &mut self.lanes[*lane].time;
            let account = known.account(*lane);
            if account.tag < *time {
                *account = Account { tag: *time, back: 0 };
            }
            if *lane == first {
                *time = account.tag;
            }
            let free = account.back.min(*calls);
            account.back -= free;
            account.tag += calls - free;
        }
        if kind != Kind::Prepaid {
            known.stands.granted = known.stands.granted.saturating_sub(1);
        }
        self.place_all(client);
    }

    /// So many rows of a client made no call from this step on, so it is charged for none of those.
    pub(super) fn refund(&mut self, client: i64, version: i64, step: u32, rows: u32) {
        let route = self.versions.get(&version).and_then(|routes| routes.get(step as usize)).copied();
        let (Some(route), Some(known)) = (route, self.clients.get_mut(&client)) else { return };
        for (lane, calls) in &self.routes[route].calls {
            known.account(*lane).back += calls * u64::from(rows);
        }
    }

    /// Forgets clients that nothing is known of but how many calls they had, where that makes no difference any more.
    pub(super) fn forget_idle(&mut self) {
        let lanes = &self.lanes;
        let is_ahead = |(lane, account): &(usize, Account)| account.tag > lanes[*lane].time;
        self.clients.retain(|_, known| known.batches > 0 || known.accounts.iter().any(is_ahead));
    }
}
