//! What an operator may do. Each may what the one before it may.

use serde::{Deserialize, Serialize};

/// The role of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks: values stay masked, nothing is changed.
    Viewer,
    /// Does the daily work: dispatch, batches, rates, limits, pauses, and looks at values where it is noted.
    Operator,
    /// Decides who gets in: clients, keys, webhooks, sessions.
    Admin,
}

impl Role {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is spelled everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| "is admin, operator or viewer".to_owned())
    }
}
