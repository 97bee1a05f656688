//! The settler: one thread that writes down how claims ended, many in one transaction, while the workers are at their
//! next rows.
//!
//! A row that waits here is still claimed and counts as under way; it is over when its settle is on disk, and not
//! before. Should the process die first, whoever claims the row next repeats its last request by the rules of its step,
//! just as if the process had died a moment earlier, between the answer and the settle.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    group::Group,
    settling::{self, SETTLE_AGAIN, Settling},
};
use crate::{appliance::Appliance, crash_point::crash_point, heartbeat, model::RowId};

/// How long the first of a group waits for others: no worker waits for it, and a group costs little more than one row.
const GATHER: Duration = Duration::from_millis(2);

/// How long it sleeps where nothing is to be settled: each time it wakes is a sign of life.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// A running settler.
pub(super) struct Settler(JoinHandle<()>);

impl Settler {
    /// Starts it. It tells `settled` which claims have ended, and ends itself with the last of the senders. They are
    /// not blocked: the pool bounds how many rows are under way.
    pub(super) fn start(
        appliance: &Arc<Appliance>,
        settled: impl Fn(&[RowId]) + Send + 'static,
    ) -> std::io::Result<(Self, Sender<Arc<Settling>>)> {
        let (queue, ended) = channel();
        let appliance = appliance.clone();
        let thread = std::thread::Builder::new().name("settler".into()).spawn({
            let heart = appliance.hearts.register("settler", heartbeat::LONGEST);
            move || {
                heart.settle_in();
                settle_until_closed(&appliance, &ended, &settled);
            }
        })?;
        Ok((Self(thread), queue))
    }

    /// Waits until everything is settled that was handed over.
    pub(super) fn join(self) {
        let _ = self.0.join();
    }
}

fn settle_until_closed(appliance: &Appliance, queue: &Receiver<Arc<Settling>>, settled: &impl Fn(&[RowId])) {
    // What the database refused. It is tried again beside what comes new, so that no row waits for another one's luck.
    let mut refused = VecDeque::new();
    let mut again_at = Instant::now();
    loop {
        let next = match refused.is_empty() {
            true => queue.recv_timeout(LONGEST_SLEEP),
            false => queue.recv_timeout(again_at.saturating_duration_since(Instant::now())),
        };
        let first = match next {
            Ok(first) => {
                appliance.closing.wait(GATHER);
                Some(first)
            }
            Err(RecvTimeoutError::Disconnected) if refused.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(again_at.saturating_duration_since(Instant::now()));
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
        };
        let group = gather(first, queue, &mut refused, again_at <= Instant::now());
        heartbeat::beat();
        let rows: Vec<RowId> = group.iter().map(|settling| settling.row()).collect();
        crash_point("rows.settling");
        let left = write(appliance, group);
        settled(&without(rows, &left));
        if !left.is_empty() {
            settling::refused(left.len());
            again_at = Instant::now() + SETTLE_AGAIN;
            refused.extend(left);
        }
    }
}

/// What has just come in goes first, and before what comes in meanwhile what was refused, where it is time for that.
fn gather(
    first: Option<Arc<Settling>>,
    queue: &Receiver<Arc<Settling>>,
    refused: &mut VecDeque<Arc<Settling>>,
    is_time: bool,
) -> Vec<Arc<Settling>> {
    let bytes = |settling: &Arc<Settling>| settling.bytes();
    let group = Group::of(first, bytes);
    let group = if is_time { group.fill(std::iter::from_fn(|| refused.pop_front()), bytes) } else { group };
    group.fill(queue.try_iter(), bytes).into_rows()
}

/// Those of the rows that are not left.
fn without(mut rows: Vec<RowId>, left: &[Arc<Settling>]) -> Vec<RowId> {
    let left: HashSet<RowId> = left.iter().map(|settling| settling.row()).collect();
    rows.retain(|row| !left.contains(row));
    rows
}

/// Writes them together or, where that fails, one by one, so that one that cannot be written takes no other with it.
/// Returns those that are to be tried again.
fn write(appliance: &Appliance, mut group: Vec<Arc<Settling>>) -> Vec<Arc<Settling>> {
    // Neighbours in the table share its pages, and rows of one batch what is written of the batch.
    group.sort_by_key(|settling| settling.row());
    if group.is_empty() {
        return Vec::new();
    }
    match settling::write(appliance, &group) {
        Ok(_) => return Vec::new(),
        // What is in the way of all of them is in the way of each: one by one they would wait for it as many times.
        Err(error) if error.is_passing() => {
            group.retain(|settling| settling.is_worth_another_try(appliance, &error));
            return group;
        }
        Err(_) => {}
    }
    group.retain(|alone| match settling::write(appliance, std::slice::from_ref(alone)) {
        Ok(_) => false,
        Err(error) => alone.is_worth_another_try(appliance, &error),
    });
    group
}
