//! An alert, as operators see it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{AlertKind, Timestamp},
    store::alerts::Alert,
};

/// Something that is wrong, or was.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AlertView {
    /// The same in every message about it.
    pub id: String,
    /// What is wrong.
    pub alert: AlertKind,
    /// The batch or the dependency that it is about; `null` where it is about neither, or about many.
    pub subject: Option<String>,
    /// What is wrong, in ids, names and counts.
    pub summary: String,
    /// What it means, and who can help.
    pub hint: &'static str,
    /// The commands to run next, in this order.
    pub what_to_do: Vec<String>,
    /// Since when.
    pub since: Timestamp,
    /// Since when it is over; `null` while it is not.
    pub resolved_at: Option<Timestamp>,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        Self {
            hint: alert.kind.hint(),
            what_to_do: alert.kind.what_to_do(&alert.subject),
            id: alert.id,
            alert: alert.kind,
            subject: Some(alert.subject).filter(|subject| !subject.is_empty()),
            summary: alert.summary,
            since: alert.since,
            resolved_at: alert.resolved_at,
        }
    }
}
