//! Why nothing moves in a batch of which rows are under way.

use std::time::Duration;

use super::obstacle;
use crate::{
    appliance::Appliance,
    model::Timestamp,
    store::{StoreError, batches::Batch, stuck},
    work::under_way::Still,
};

/// Rows under way that stand still for longer than this do not move.
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// What they wait for; `None` where they move.
pub(super) fn stuck(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Option<String>, StoreError> {
    let nobody = held_by_nobody(appliance, batch, now)?;
    Ok(nobody.or_else(|| unanswered(appliance, batch, now)))
}

/// Whoever claimed them is gone.
fn held_by_nobody(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Result<Option<String>, StoreError> {
    let held = appliance.store.read(|connection| stuck::held_until(connection, batch.batch))?;
    let Some(expired) = held.filter(|until| *until < now) else { return Ok(None) };
    let frees = if appliance.config.workers.auto_rescue {
        "they are freed soon"
    } else {
        "`dripfeed stuck --apply` frees them"
    };
    let since = expired.told(now);
    Ok(Some(format!("whoever had its rows under way is gone, the last claim expired at {since}; {frees}")))
}

/// No answer comes to any of them, or they wait for a dependency between two steps.
fn unanswered(appliance: &Appliance, batch: &Batch, now: Timestamp) -> Option<String> {
    let Still { rows, lasts } = appliance.under_way.still(batch.batch).filter(|still| still.lasts > LONGEST_STEP)?;
    let kept = appliance.workflow(batch.workflow_version).ok()?;
    if let Some((dependency, wait)) = kept.way().ok()?.obstacle(0) {
        return Some(obstacle(&dependency, wait, now));
    }
    let all = appliance.downstream.status();
    let calls = |name: &str| kept.workflow.steps.iter().any(|step| step.dependency == name);
    let asked = all.iter().filter(|it| it.in_flight > 0 && calls(&it.name)).max_by_key(|it| it.in_flight)?;
    let rows = if rows == 1 { "its row".to_owned() } else { format!("its {rows} rows") };
    Some(format!("an answer of {}: {rows} under way had none since {}", asked.name, now.before(lasts).told(now)))
}
