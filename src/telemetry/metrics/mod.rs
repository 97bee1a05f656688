//! Metrics, for Prometheus.
//!
//! What happens is counted where it happens, by handles that were resolved at the start: an atomic addition each. What is
//! so (gates, queues, sizes) is looked up when somebody asks ([`scrape`]). Every label is bounded: workflows, steps and
//! dependencies out of the configuration, outcomes, codes and routes out of the sources. Never a client, a batch, a path
//! or anything of a row.
//!
//! Each appliance has a registry of its own, since several may run in one process. The rooms that know no appliance know
//! no registry either: they tell a trait of their own ([`crate::downstream::Meter`], [`crate::store::Meter`]).

mod around;
mod calls;
mod families;
mod intake;
mod process;
mod rows;
pub mod scrape;
mod writes;

use std::sync::Arc;

pub use prometheus::Error;
use prometheus::Registry;

pub use self::{
    around::{Announcements, Backups, Requests, Runs},
    calls::Calls,
    intake::{Extraction, Uploads},
    rows::{Rows, Tally},
    writes::Writes,
};
use crate::{config::Config, model::Timestamp};

/// What a workflow or a step is called that the configuration does not have any more.
const REMOVED: &str = "(removed)";

/// Everything that is counted in one process.
pub struct Metrics {
    registry: Registry,
    started_at: Timestamp,
    /// Calls, permits and gates.
    pub calls: Calls,
    /// How claims end.
    pub rows: Rows,
    /// The database's writer.
    pub writes: Arc<Writes>,
    /// Uploads.
    pub uploads: Uploads,
    /// Extraction.
    pub extraction: Extraction,
    /// Dispatch runs.
    pub runs: Runs,
    /// Announcements to webhooks.
    pub announcements: Announcements,
    /// Backups.
    pub backups: Backups,
    /// Calls of our own API.
    pub requests: Requests,
}

impl Metrics {
    /// Everything at zero, for what this configuration names.
    pub fn new(config: &Config, started_at: Timestamp) -> Result<Self, Error> {
        let registry = Registry::new();
        let families = families::Families(&registry);
        Ok(Self {
            calls: Calls::new(&families, config.dependencies.keys())?,
            rows: Rows::new(&families, config.workflows.values())?,
            writes: Arc::new(Writes::new(&families)?),
            uploads: Uploads::new(&families, config.workflows.keys())?,
            extraction: Extraction::new(&families)?,
            runs: Runs::new(&families)?,
            announcements: Announcements::new(&families)?,
            backups: Backups::new(&families)?,
            requests: Requests::new(&families)?,
            started_at,
            registry,
        })
    }
}

/// Seconds since 1970, as Prometheus has points in time.
fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1_000.0
}
