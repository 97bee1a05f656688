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

/// Stops all claims at once, in the name and for the reason of whoever does it. To pause what is paused changes something only
/// where it gives another reason. Blocks.
pub fn pause(env: Env<'_>, actor: &Actor, reason: Option<String>) -> Result<DispatchState, StoreError> {
    let (by, deed) = (actor.who.clone(), actor.deed("dispatch.pause", DISPATCH, reason));
    let (state, is_news) = env.store.write(move |tx| {
        let before = grants::pause_of(tx.connection)?;
        let is_news = before.is_none_or(|before| deed.why.is_some() && deed.why != before.reason);
        if is_news {
            audit::note(tx, &deed)?;
            grants::pause(tx, &deed.who, deed.why.as_deref())?;
        }
        Ok((DispatchState { paused: grants::pause_of(tx.connection)? }, is_news))
    })?;
    if is_news {
        tracing::warn!(event = "dispatch.paused", by, "dispatch is paused");
    }
    Ok(state)
}

/// Lets claims go on. Blocks.
pub fn resume(env: Env<'_>, actor: &Actor, reason: Option<String>) -> Result<DispatchState, StoreError> {
    let (by, deed) = (actor.who.clone(), actor.deed("dispatch.resume", DISPATCH, reason));
    let was_paused = env.store.write(move |tx| {
        let was_paused = grants::pause_of(tx.connection)?.is_some();
        if was_paused {
            audit::note(tx, &deed)?;
            grants::resume(tx)?;
        }
        Ok(was_paused)
    })?;
    if was_paused {
        tracing::info!(event = "dispatch.resumed", by, "dispatch goes on");
        env.wake_work();
    }
    Ok(DispatchState { paused: None })
}
