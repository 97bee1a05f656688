//! How fast a dependency is called, changed while it runs.

use super::{Actor, clients::because};
use crate::{
    appliance::Appliance,
    downstream::DownstreamError,
    store::{StoreError, audit, dependencies},
};

/// Why a rate stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum RateFault {
    /// Nothing of this name is configured.
    #[error("there is no dependency `{0}`")]
    Unknown(String),
    /// It is no rate.
    #[error("a rate is a number of requests a second, more than zero")]
    NoRate,
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was kept, and is not used yet.
    #[error(transparent)]
    Unused(DownstreamError),
}

/// Has a dependency called at another rate, in requests a second; `None` goes back to the configured one. Kept first, then
/// believed: after a restart, and in every other process, what is kept holds. Returns the rate. Blocks.
pub fn set_rate(
    appliance: &Appliance,
    actor: &Actor,
    name: &str,
    kept: Option<f64>,
    reason: Option<String>,
) -> Result<f64, RateFault> {
    let configured = appliance.config.dependencies.get(name).ok_or_else(|| RateFault::Unknown(name.to_owned()))?;
    let rate = kept.unwrap_or(configured.rate_per_second);
    if !(rate.is_finite() && rate > 0.0) {
        return Err(RateFault::NoRate);
    }
    let to = kept.map_or_else(|| "as configured".to_owned(), |rate| format!("{rate} a second"));
    let (of, by) = (name.to_owned(), actor.who.clone());
    let deed = actor.deed("dependency.rate", name, Some(because(to, reason)));
    let is_news = appliance.store.write(move |tx| {
        let is_news = dependencies::rate_of(tx.connection, &of)? != kept;
        if is_news {
            audit::note(tx, &deed)?;
            dependencies::set_rate(tx, &of, kept)?;
        }
        Ok(is_news)
    })?;
    appliance.downstream.set_rate(name, rate).map_err(RateFault::Unused)?;
    if is_news {
        tracing::warn!(event = "rate.changed", by, dependency = name, rate, "a rate was changed");
    }
    Ok(rate)
}
