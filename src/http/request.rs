//! A request as handlers get it: what it says of itself, who sends it, and what every handler has at hand.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use serde::de::DeserializeOwned;
use warp::{Filter, Rejection, http::HeaderMap, reject};

use super::{
    Context,
    access::{Caller, Operator, identify},
    answer, forwarded,
    meter::Reading,
    problem::{Problem, ProblemCode},
};
use crate::{appliance::Appliance, store::audit::Deed};

/// The other end of a connection. The listener puts it beside every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Stands beside a request that only asks whether its path knows its method: no handler gets to see it.
#[derive(Debug, Clone, Copy)]
pub struct Probe;

/// The path of a [`Probe`] knows its method.
#[derive(Debug)]
pub struct Known;

impl reject::Reject for Known {}

/// A request without its path and body: a route's filter takes those apart.
#[derive(Clone)]
pub struct Request {
    /// What every handler has at hand.
    pub context: Context,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its method.
    pub method: warp::http::Method,
    query: String,
    peer: Option<SocketAddr>,
    /// A request is counted once, however often somebody asks who sends it.
    counted: Arc<OnceLock<Reading>>,
}

impl Request {
    /// The appliance.
    pub fn appliance(&self) -> &Appliance {
        &self.context.appliance
    }

    /// Who sends it, if they have not sent too many; how many they may still send is told beside the answer. Blocks.
    pub fn caller(&self) -> Result<Caller, Problem> {
        let caller = self.uncounted_caller()?;
        self.count(&caller)?;
        Ok(caller)
    }

    /// Counts this request as the caller's.
    pub(super) fn count(&self, caller: &Caller) -> Result<(), Problem> {
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
        Ok(identify(self)?.caller)
    }

    /// The operator who sends it, for calls that only an operator can make. Blocks.
    pub fn operator(&self) -> Result<Operator, Problem> {
        let name = self.caller()?.operator()?;
        Ok(self.operator_named(name))
    }

    /// What the caller is about to do, for the audit, where an operator does it: what clients do to their own is theirs.
    pub fn deed(
        &self,
        caller: &Caller,
        action: &'static str,
        target: impl Into<String>,
        why: Option<String>,
    ) -> Option<Deed> {
        match caller {
            Caller::Operator(name) => Some(self.operator_named(name.clone()).deed(action, target, why)),
            Caller::Client(_) | Caller::Dispatcher | Caller::Watcher => None,
        }
    }

    fn operator_named(&self, name: String) -> Operator {
        let origin = self.origin().map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        Operator { name, origin }
    }

    /// Its query, understood as `T`; what `T` does not know is refused.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_urlencoded::from_str(&self.query)
            .map_err(|error| Problem::new(ProblemCode::BadRequest, format!("The query is not understood: {error}.")))
    }

    /// The address that it comes from; where it comes through a proxy that is believed, the one that the proxy names.
    pub fn origin(&self) -> Option<IpAddr> {
        let trusted = &self.appliance().config.server.trusted_proxies;
        self.peer.map(|peer| forwarded::origin(peer.ip(), &self.headers, trusted))
    }

    /// Whether it came over TLS.
    pub fn is_secure(&self) -> bool {
        let trusted = &self.appliance().config.server.trusted_proxies;
        self.peer.is_some_and(|peer| forwarded::is_secure(peer.ip(), &self.headers, trusted))
    }

    /// The host, with its port where it has one, that it was sent to.
    pub fn host(&self) -> Option<&str> {
        let trusted = &self.appliance().config.server.trusted_proxies;
        forwarded::host(self.peer?.ip(), &self.headers, trusted)
    }
}

/// Takes a request apart for a handler, all but its path and body.
pub fn request(context: &Context) -> impl Filter<Extract = (Request,), Error = Rejection> + Clone + use<> {
    let context = context.clone();
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let meant = warp::ext::optional::<Probe>().and_then(|probe: Option<Probe>| async move {
        match probe {
            None => Ok(()),
            Some(Probe) => Err(reject::custom(Known)),
        }
    });
    let parts = warp::method().and(warp::header::headers_cloned()).and(query).and(warp::ext::optional::<Peer>());
    meant.untuple_one().and(parts).map(move |method, headers, query, peer: Option<Peer>| Request {
        context: context.clone(),
        headers,
        method,
        query,
        peer: peer.map(|Peer(address)| address),
        counted: Arc::default(),
    })
}
