//! The noter: one thread that writes down which requests are about to leave, many in one transaction, while their rows wait
//! for it without a thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    group::Group,
    noting::{self, Note},
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    heartbeat,
    store::{Held, StoreError, settle::Standing},
};

/// How long the first of a group waits for others: a group costs little more than one row.
const GATHER: Duration = Duration::from_millis(2);
/// How long it sleeps where nothing is to be noted: each time it wakes is a sign of life.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Of what the last notes took, the newest counts so much.
const NEWEST: f64 = 0.1;
/// A note is expected to take this many times as long as the last ones did, so that few take longer.
const MARGIN: f64 = 2.0;
/// And within these bounds.
const SHORTEST: Duration = Duration::from_millis(6);
const LONGEST: Duration = Duration::from_millis(250);

/// A note, and who waits for it.
struct ToWrite {
    note: Arc<Note>,
    written: oneshot::Sender<Result<Held, StoreError>>,
}

impl ToWrite {
    fn bytes(&self) -> usize {
        self.note.standing.as_ref().map_or(0, Standing::bytes)
    }
}

/// Where notes are handed in. Clones lead to the same noter, which ends with the last of them. They are not blocked: the pool
/// bounds how many rows are under way.
#[derive(Clone)]
pub struct Notes {
    queue: Sender<ToWrite>,
    takes: Arc<Takes>,
}

impl Notes {
    /// Starts a noter.
    pub fn open(appliance: &Arc<Appliance>) -> std::io::Result<(Noter, Self)> {
        let (queue, to_write) = channel();
        let appliance = appliance.clone();
        let thread = std::thread::Builder::new().name("noter".into()).spawn({
            let heart = appliance.hearts.register("noter", heartbeat::LONGEST);
            move || {
                heart.settle_in();
                note_until_closed(&appliance, &to_write);
            }
        })?;
        Ok((Noter(thread), Self { queue, takes: Arc::default() }))
    }

    /// Writes a note, together with others. Says whether the claim was still held.
    pub(super) async fn write(&self, note: Note) -> Result<Held, StoreError> {
        let begun = Instant::now();
        let (written, result) = oneshot::channel();
        let handed_in = self.queue.send(ToWrite { note: Arc::new(note), written });
        // Both only fail when the noter is gone, by a panic that was told.
        handed_in.map_err(|_| StoreError::Closed)?;
        let result = result.await.map_err(|_| StoreError::Closed)?;
        self.takes.learn(begun.elapsed());
        result
    }

    /// How long a note most probably takes now.
    pub(super) fn expected(&self) -> Duration {
        self.takes.expected()
    }
}

/// How long notes took lately, in nanoseconds.
#[derive(Default)]
struct Takes(AtomicU64);

impl Takes {
    fn learn(&self, took: Duration) {
        // Notes that end at the same time may overwrite each other's share: it is an estimate.
        let before = self.0.load(Ordering::Relaxed) as f64;
        let now = before + (took.as_nanos() as f64 - before) * NEWEST;
        self.0.store(now as u64, Ordering::Relaxed);
    }

    fn expected(&self) -> Duration {
        let lately = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        lately.mul_f64(MARGIN).clamp(SHORTEST, LONGEST)
    }
}

/// A running noter.
pub struct Noter(JoinHandle<()>);

impl Noter {
    /// Waits for its end.
    pub fn join(self) {
        let _ = self.0.join();
    }
}

fn note_until_closed(appliance: &Appliance, queue: &Receiver<ToWrite>) {
    loop {
        heartbeat::beat();
        let first = match queue.recv_timeout(LONGEST_SLEEP) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        appliance.closing.wait(GATHER);
        let group = Group::of(Some(first), ToWrite::bytes).fill(queue.try_iter(), ToWrite::bytes);
        crash_point("rows.noting");
        write(appliance, group.into_rows());
    }
}

/// Writes them together or, where that fails, one by one, so that one that cannot be written takes no other with it.
fn write(appliance: &Appliance, mut group: Vec<ToWrite>) {
    // Neighbours in the table share its pages.
    group.sort_by_key(|to_write| to_write.note.row);
    let written: Vec<_> = match noting::write(appliance, group.iter().map(|to_write| to_write.note.clone()).collect()) {
        Ok(held) => group.into_iter().zip(held).map(|(to_write, held)| (to_write.written, Ok(held))).collect(),
        // What is in the way of all of them is in the way of each: one by one they would wait for it as many times.
        Err(error) if error.is_passing() => {
            let cause = Arc::new(error);
            group.into_iter().map(|to_write| (to_write.written, Err(StoreError::Commit(cause.clone())))).collect()
        }
        Err(_) => {
            let alone = |ToWrite { note, written }| {
                let held = noting::write(appliance, vec![note]);
                (written, held.and_then(|held| held.first().copied().ok_or(StoreError::Closed)))
            };
            group.into_iter().map(alone).collect()
        }
    };
    // All of them by one wake of the thread of the calls: each that comes from another thread is a system call there.
    appliance.downstream.spawn(async move {
        // Who waits may have gone away; what is noted stays noted.
        written.into_iter().for_each(|(written, held)| drop(written.send(held)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_note_takes_is_expected_with_a_margin_and_within_bounds() {
        let takes = Takes::default();
        assert_eq!(takes.expected(), SHORTEST);
        (0..100).for_each(|_| takes.learn(Duration::from_millis(40)));
        let expected = takes.expected().as_millis();
        assert!((78..=80).contains(&expected), "{expected}");
        (0..100).for_each(|_| takes.learn(Duration::from_secs(9)));
        assert_eq!(takes.expected(), LONGEST);
    }
}
