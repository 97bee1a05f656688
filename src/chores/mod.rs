//! Chores: what takes effect at once and is carried out piece by piece behind that, so that no other write waits long.
//!
//! One thread does all that is done to the database, in bounded transactions, and another what may wait for a bucket.
//! What is to be done stands in the database, so whatever is broken off goes on at the next start, and what a command
//! asked for is found by the next look.

mod counts;
mod deletion;
mod retry;
mod room;
pub mod set_clock;

pub use deletion::remove_files;

use std::{collections::BTreeSet, time::Duration};

use crate::{
    appliance::Appliance,
    store::{StoreError, deletions},
};

/// How long the thread sleeps when nobody rings: commands ring no bell.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Chores of a kind that one look takes on; the rest follow in the next.
const AT_ONCE: u32 = 1_000;

/// What this process remembers of chores between two looks.
#[derive(Default)]
struct Memory {
    /// Deleted batches whose data key is certainly out of the WAL.
    keys_gone: BTreeSet<i64>,
    /// When counts are looked at.
    counts: counts::NextLook,
}

/// Carries chores out until the appliance closes.
pub fn run(appliance: &Appliance) {
    let mut memory = Memory::default();
    while !appliance.closing.is_closed() {
        match look(appliance, &mut memory) {
            Ok(More::Now) => {}
            Ok(More::Later) => appliance.chores_bell.wait(LONGEST_SLEEP),
            Err(error) => {
                tracing::error!(
                    event = "chore.failed",
                    %error,
                    "a chore could not be carried on; it is tried again by itself"
                );
                appliance.chores_bell.wait(LONGEST_SLEEP);
            }
        }
    }
}

/// Carries deletions out to their end, for a command that has the data folder to itself. Whether all are: a stored file
/// that cannot be reached stays for the next server.
pub fn finish_deletions(appliance: &Appliance) -> Result<bool, StoreError> {
    let mut memory = Memory::default();
    let mut before = None;
    loop {
        deletion::remove_files_once(appliance, &mut deletion::Refusals::default());
        while look(appliance, &mut memory)? == More::Now {}
        let left = appliance.store.read(deletions::count)?;
        if left == 0 || before == Some(left) {
            return Ok(left == 0);
        }
        before = Some(left);
    }
}

/// When the next look is worth it.
#[derive(Debug, PartialEq, Eq)]
enum More {
    Now,
    Later,
}

fn look(appliance: &Appliance, memory: &mut Memory) -> Result<More, StoreError> {
    retry::carry_on(appliance)?;
    counts::mend(appliance, &mut memory.counts)?;
    deletion::carry_on(appliance, memory)?;
    Ok(if room::give_back(appliance)? { More::Now } else { More::Later })
}
