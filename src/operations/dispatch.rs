//! The one big switch.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Actor, Env};
use crate::store::{
    StoreError, audit,
    grants::{self, DispatchPause},
};

/// What the audit calls what is switched.
pub const DISPATCH: &str = "dispatch";

/// Whether dispatch stands still.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DispatchState {
    paused: Option<DispatchPause>,
}

/// Stops all claims at once, in the name and for the reason of whoever does it. Blocks.
pub fn pause(env: Env<'_>, actor: &Actor, reason: Option<String>) -> Result<DispatchState, StoreError> {
    let (by, deed) = (actor.who.clone(), actor.deed("dispatch.pause", DISPATCH, reason));
    let state = env.store.write(move |tx| {
        audit::note(tx, &deed)?;
        grants::pause(tx, &deed.who, deed.why.as_deref())?;
        Ok(DispatchState { paused: grants::pause_of(tx.connection)? })
    })?;
    tracing::warn!(event = "dispatch.paused", by, "dispatch is paused");
    Ok(state)
}

/// Lets claims go on. Blocks.
pub fn resume(env: Env<'_>, actor: &Actor, reason: Option<String>) -> Result<DispatchState, StoreError> {
    let (by, deed) = (actor.who.clone(), actor.deed("dispatch.resume", DISPATCH, reason));
    let state = env.store.write(move |tx| {
        audit::note(tx, &deed)?;
        grants::resume(tx)?;
        Ok(DispatchState { paused: grants::pause_of(tx.connection)? })
    })?;
    tracing::info!(event = "dispatch.resumed", by, "dispatch goes on");
    env.wake_work();
    Ok(state)
}
