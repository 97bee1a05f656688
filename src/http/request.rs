//! A request as handlers get it: what it says of itself, who sends it, and what every handler has at hand.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use serde::de::DeserializeOwned;
use warp::{Filter, http::HeaderMap};

use super::{
    Context,
    access::{Caller, Operator},
    problem::{Problem, ProblemCode},
};
use crate::{appliance::Appliance, store::audit::Deed};

/// The other end of a connection. The listener puts it beside every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

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
}

impl Request {
    /// The appliance.
    pub fn appliance(&self) -> &Appliance {
        &self.context.appliance
    }

    /// Who sends it. Blocks.
    pub fn caller(&self) -> Result<Caller, Problem> {
        Caller::of(self)
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
            Caller::Client(_) | Caller::Dispatcher => None,
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
        self.peer.map(|peer| peer.ip())
    }
}

/// Takes a request apart for a handler, all but its path and body.
pub fn request(context: &Context) -> impl Filter<Extract = (Request,), Error = Infallible> + Clone + use<> {
    let context = context.clone();
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method().and(warp::header::headers_cloned()).and(query).and(warp::ext::optional::<Peer>()).map(
        move |method, headers, query, peer: Option<Peer>| Request {
            context: context.clone(),
            headers,
            method,
            query,
            peer: peer.map(|Peer(address)| address),
        },
    )
}
