//! What closes a gate, in a word that is kept and in words for a person.

use std::fmt;

/// What closed a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray, strum::EnumString)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum GateReason {
    /// It answered 429, or 403 with `Retry-After`: it wants fewer requests.
    RateLimited,
    /// It answered 503: it is not there for anybody.
    Unavailable,
    /// `gate_after` requests in a row got no answer, or a 5xx.
    Failing,
    /// It answered 401 several times in a row: the credential is not taken any more.
    Unauthorized,
}

impl GateReason {
    /// Every reason.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As the schema spells it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// For a person.
impl fmt::Display for GateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RateLimited => "it answered 429, or 403 with Retry-After (too many requests)",
            Self::Unavailable => "it answered 503 (service unavailable)",
            Self::Failing => "its last requests all failed",
            Self::Unauthorized => "it answered 401 (unauthorized): its credential is not taken",
        })
    }
}
