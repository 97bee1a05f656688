//! What holds rows back beside permits and grants: the disk, where only what the outcomes of rows under way need is left of it,
//! and the quota of a client whose rows have saved more than it may have here. What is under way goes on to its end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::ready::Index;
use crate::{
    appliance::Appliance,
    store::{StoreError, quotas},
};

/// How often it is looked. By what its rows save in that time a client can come over its quota, besides those under way.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// As it was at the last look.
#[derive(Debug, Default)]
pub(super) struct Brakes {
    next_look: Option<Instant>,
    is_without_room: bool,
    full: BTreeSet<i64>,
}

impl Brakes {
    /// Looks, where it is time to. Whether rows may be claimed; whose may not, the index is told.
    pub(super) fn look(&mut self, appliance: &Appliance, index: &mut Index) -> Result<bool, StoreError> {
        if self.next_look.is_none_or(|next| next <= Instant::now()) {
            self.look_at_the_disk(appliance);
            self.look_at_clients(appliance)?;
            self.next_look = Some(Instant::now() + LOOK_EVERY);
        }
        // An index that was made anew since has not heard of them.
        index.set_full(&self.full);
        Ok(!self.is_without_room)
    }

    /// Whether nothing may be claimed before the next look.
    pub(super) fn is_without_room(&self) -> bool {
        self.is_without_room
    }

    fn look_at_the_disk(&mut self, appliance: &Appliance) {
        let short = appliance.room.for_more_rows().err();
        match (std::mem::replace(&mut self.is_without_room, short.is_some()), short) {
            (false, Some(short)) => tracing::warn!(
                event = "dispatch.without_room",
                %short,
                "no more rows are sent: what is left of the disk is for the outcomes of those under way"
            ),
            (true, None) => {
                tracing::info!(event = "dispatch.has_room", "there is room on the disk again: rows are sent")
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn look_at_clients(&mut self, appliance: &Appliance) -> Result<(), StoreError> {
        let full = appliance.store.read(|connection| quotas::full_clients(connection, appliance.config.quotas))?;
        for (client, name) in &full {
            if !self.full.contains(client) {
                tracing::warn!(
                    event = "client.is_full",
                    client = name,
                    "what its rows have saved brings a client over its quota `stored_bytes`: the others wait"
                );
            }
        }
        self.full = full.into_iter().map(|(client, _)| client).collect();
        Ok(())
    }
}
