//! What a listener is for. Where operators have one of their own (`server.ops_listen`), the other one is for clients alone:
//! it has no `/ops` and no `/metrics`, and takes no operator's key or session for anything, so that whoever reaches only the
//! clients' listener can do nothing with a token that leaked. The operators' own serves everything, to everybody who
//! reaches it: the page needs the batches too.

use super::{
    access::{Caller, forbidden},
    problem::Problem,
};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Everybody: there is no other.
    Everybody,
    /// Clients: there is another one for operators.
    Clients,
    /// Operators: there is another one for clients.
    Operators,
}

impl Side {
    /// Refuses who has another way in.
    pub(super) fn lets_in(self, caller: &Caller) -> Result<(), Problem> {
        match (self, caller) {
            (Self::Everybody | Self::Operators, _) | (Self::Clients, Caller::Client(..)) => Ok(()),
            (Self::Clients, _) => Err(forbidden(
                "This listener is for clients: operators and tokens come in by the one of `server.ops_listen`.",
            )),
        }
    }

    /// Whether this path is served at all.
    pub(super) fn has(self, path: &str) -> bool {
        let first = path.trim_start_matches('/').split('/').next();
        self != Self::Clients || !matches!(first, Some("ops" | "metrics"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_side_lacks_something() {
        for path in ["/ops/v1/overview", "/ops", "/ops/", "//ops/v1", "/metrics", "/metrics/"] {
            assert!(!Side::Clients.has(path), "{path}");
            assert!(Side::Operators.has(path) && Side::Everybody.has(path), "{path}");
        }
        for path in ["/", "/v2/batches", "/v2/ops", "/opsy", "/metricsx", "/livez", "/session"] {
            assert!(Side::Clients.has(path), "{path}");
        }
    }
}
