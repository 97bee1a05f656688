//! What is counted of the calls to a dependency. Whoever counts implements [`Meter`]: this room knows no registry.

use std::time::Duration;

use super::{gate::GateReason, permit::WaitReason};
use crate::model::{FailureCode, StepFailure, outcome::Outcome};

/// Told of each permit and each call of one dependency, by the threads that send: it adds to a counter, and no more.
pub trait Meter: Send + Sync {
    /// A permit was given to a request that waited so long for it.
    fn permitted(&self, waited: Duration);
    /// A request that had no permit in time went home.
    fn turned_away(&self, why: WaitReason);
    /// A request ended so, so long after it left.
    fn called(&self, end: CallEnd, took: Duration);
    /// The gate closed, or closed again after its probe failed.
    fn gate_closed(&self, reason: GateReason);
}

/// Counts nothing.
impl Meter for () {
    fn permitted(&self, _: Duration) {}
    fn turned_away(&self, _: WaitReason) {}
    fn called(&self, _: CallEnd, _: Duration) {}
    fn gate_closed(&self, _: GateReason) {}
}

/// How a call ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum CallEnd {
    /// 2xx, with all that the step saves.
    Success,
    /// A status that says no.
    Rejected,
    /// 2xx without what the step saves, or too large.
    BadAnswer,
    /// 429, or 403 with `Retry-After`.
    RateLimited,
    /// 401.
    Unauthorized,
    /// 503.
    Unavailable,
    /// Another 5xx.
    ServerError,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connection,
}

impl CallEnd {
    /// Every end.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// The end of a call that came to this.
    pub(super) fn of(outcome: &Outcome) -> Self {
        let (Outcome::Permanent { failure, .. } | Outcome::Transient { failure, .. }) = outcome else {
            return Self::Success;
        };
        let StepFailure { code, http_status, .. } = failure;
        match (http_status, code) {
            (_, FailureCode::RateLimited) => Self::RateLimited,
            (Some(401), _) => Self::Unauthorized,
            (Some(503), _) => Self::Unavailable,
            (_, FailureCode::ServerError) => Self::ServerError,
            (_, FailureCode::Timeout) => Self::Timeout,
            (_, FailureCode::Connection) => Self::Connection,
            (_, FailureCode::BadAnswer) => Self::BadAnswer,
            _ => Self::Rejected,
        }
    }
}
