//! What an operator may do. Each may what the one before it may.

use serde::{Deserialize, Serialize};

/// The role of an operator.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case", const_into_str, parse_err_ty = String, parse_err_fn = unknown)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks: values stay masked, nothing is changed.
    Viewer,
    /// Does the daily work: dispatch, batches, rates, limits, pauses, and looks at values where it is noted.
    Operator,
    /// Decides who gets in: clients, keys, webhooks, sessions.
    Admin,
}

fn unknown(_: &str) -> String {
    "is admin, operator or viewer".to_owned()
}

impl Role {
    /// Each of them.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As it is spelled everywhere.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}
