//! A request as handlers get it: what it says of itself, who sends it, and what every handler has at hand.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use serde::de::DeserializeOwned;
use warp::{
    Filter,
    http::{HeaderMap, Method},
};

use super::{
    Context, Side,
    access::{Badge, Caller, Shown, identify, unauthorized},
    answer, forwarded,
    listen::{Line, no_room},
    meter::Reading,
    problem::{Problem, ProblemCode},
    standing::Right,
};
use crate::{
    appliance::Appliance,
    model::{Role, Scope},
    operations::{Actor, Env},
};

/// The other end of a connection. The listener puts it beside every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is one of TLS.
    pub is_tls: bool,
    /// What the listener is for that took it.
    pub side: Side,
}

/// A request's headers, as all who read them share them. The listener puts them beside every request.
pub type Headers = Arc<HeaderMap>;

/// What a request says of itself besides its path and body, and what the listener says of it.
pub(super) struct Parts {
    pub(super) method: Method,
    pub(super) headers: Headers,
    query: String,
    peer: Option<Peer>,
    line: Option<Line>,
}

/// A request as handlers get it: without its path and body, of which a route gives them what they take.
#[derive(Clone)]
pub struct Request {
    /// What every handler has at hand.
    pub context: Context,
    /// Its headers.
    pub headers: Headers,
    /// Its method.
    pub method: Method,
    query: String,
    /// What a client's key has to be good for; `None`: it is not for clients.
    scope: Option<Scope>,
    peer: Option<Peer>,
    /// The connection that it came on.
    pub(super) line: Option<Line>,
    /// A request is counted once, however often somebody asks who sends it.
    counted: Arc<OnceLock<Reading>>,
    /// What it was found to come with, and whose that is.
    shown: Arc<OnceLock<(Badge, Caller)>>,
}

impl Request {
    /// A request for a call that is for clients where their key is good for `scope`; where there is none, no client's
    /// [`Request::caller`] gets through.
    pub(super) fn new(context: Context, parts: Parts, scope: Option<Scope>) -> Self {
        let Parts { method, headers, query, peer, line } = parts;
        Self { context, headers, method, query, scope, peer, line, counted: Arc::default(), shown: Arc::default() }
    }

    /// The appliance.
    pub fn appliance(&self) -> &Arc<Appliance> {
        &self.context.appliance
    }

    /// Who sends it, if it is for them, and they have not sent too many; how many they may still send is told beside the
    /// answer. Blocks.
    pub fn caller(&self) -> Result<Caller, Problem> {
        let caller = self.uncounted_caller()?;
        self.count(&caller)?;
        caller.must_have(self.scope)?;
        Ok(caller)
    }

    /// What comes of this while which the connection waits for its caller, and makes way where its place is needed more.
    pub(super) async fn while_waiting<T>(&self, work: impl Future<Output = T>) -> Result<T, Problem> {
        let Some(line) = &self.line else { return Ok(work.await) };
        line.waits();
        let done = work.await;
        if line.goes_on() { Ok(done) } else { Err(no_room()) }
    }

    /// Counts this request as the caller's.
    pub(super) fn count(&self, caller: &Caller) -> Result<(), Problem> {
        if let Caller::Client(_, pass) = caller {
            self.context.door.key_uses.used(pass.key, self.appliance().clock.now());
        }
        if let Some(who) = caller.metered() {
            let now = self.appliance().clock.steady();
            let reading = *self.counted.get_or_init(|| self.context.door.meter.take(who, now));
            answer::beside(|headers| reading.tell(headers));
            if let Some(seconds) = reading.refused_for {
                let detail = "This is more than one caller may ask in a minute; wait before the next call.";
                return Err(Problem::new(ProblemCode::RateLimited, detail).retry_after(seconds));
            }
        }
        Ok(())
    }

    /// Who sends it, for the few calls that no limit may hold up. Blocks.
    pub fn uncounted_caller(&self) -> Result<Caller, Problem> {
        let Shown { caller, badge, .. } = identify(self)?;
        self.shown.get_or_init(|| (badge, caller.clone()));
        if !matches!(self.method, Method::GET | Method::HEAD) {
            caller.must_be(Role::Operator)?;
        }
        Ok(caller)
    }

    /// What it was found to come with.
    pub(super) fn badge(&self) -> Option<Badge> {
        self.shown.get().map(|(badge, _)| *badge)
    }

    /// Its right to go on, which is looked at from here on: for what takes longer than an instant.
    pub(super) fn right(&self) -> Result<Right, Problem> {
        let (badge, caller) = self.shown.get().cloned().ok_or_else(unauthorized)?;
        Ok(self.context.door.standings.hold(badge, caller))
    }

    /// What operations work on here.
    pub fn env(&self) -> Env<'_> {
        Env::of(self.appliance())
    }

    /// The operator who sends it, for calls that only an operator can make. Blocks.
    pub fn operator(&self) -> Result<Actor, Problem> {
        let caller = self.caller()?;
        caller.clone().operator()?;
        Ok(self.actor(&caller))
    }

    /// The operator who sends it, for calls about who gets in. Blocks.
    pub fn admin(&self) -> Result<Actor, Problem> {
        let caller = self.caller()?;
        caller.must_be(Role::Admin)?;
        caller.clone().operator()?;
        Ok(self.actor(&caller))
    }

    /// Whoever sends it, as the audit knows them.
    pub fn actor(&self, caller: &Caller) -> Actor {
        let is_client = matches!(caller, Caller::Client(..));
        Actor { who: caller.audited_with_key(), origin: self.origin_told(), is_client }
    }

    pub(super) fn origin_told(&self) -> String {
        self.origin().map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    /// Its query, understood as `T`; what `T` does not know is refused.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_urlencoded::from_str(&self.query)
            .map_err(|error| Problem::new(ProblemCode::BadRequest, format!("The query is not understood: {error}.")))
    }

    /// The address that it comes from; where it comes through a proxy that is believed, the one that the proxy names.
    pub fn origin(&self) -> Option<IpAddr> {
        let trusted = &self.appliance().config.server.trusted_proxies;
        self.peer.map(|peer| forwarded::origin(peer.address.ip(), &self.headers, trusted))
    }

    /// Whether it came over TLS: ours, or that of a proxy that is believed.
    pub fn is_secure(&self) -> bool {
        let trusted = &self.appliance().config.server.trusted_proxies;
        self.peer.is_some_and(|peer| peer.is_tls || forwarded::is_secure(peer.address.ip(), &self.headers, trusted))
    }

    /// What the listener is for that it came to.
    pub fn side(&self) -> Side {
        self.peer.map_or(Side::Everybody, |peer| peer.side)
    }

    /// The host, with its port where it has one, that it was sent to.
    pub fn host(&self) -> Option<&str> {
        let trusted = &self.appliance().config.server.trusted_proxies;
        forwarded::host(self.peer?.address.ip(), &self.headers, trusted)
    }
}

/// Takes a request apart, all but its path and body.
pub(super) fn parts() -> impl Filter<Extract = (Parts,), Error = Infallible> + Clone {
    let headers = warp::ext::optional::<Headers>().map(Option::unwrap_or_default);
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let beside = warp::ext::optional::<Peer>().and(warp::ext::optional::<Line>());
    let parts = warp::method().and(headers).and(query).and(beside);
    parts.map(|method, headers, query, peer, line| Parts { method, headers, query, peer, line })
}
