//! The noter: one thread that writes down which requests are about to leave, many in one transaction, while the
//! workers are at other rows.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    noting::{self, Noting},
    turns::{Noted, Turns},
};
use crate::{appliance::Appliance, crash_point::crash_point, downstream::Reservation, heartbeat, store::StoreError};

/// The most notes of one transaction.
const GROUP: usize = 256;
/// How long the first of a group waits for others: no worker waits for it, and a group costs little more than one row.
const GATHER: Duration = Duration::from_millis(2);

/// How long it sleeps where nothing is to be noted: each time it wakes is a sign of life.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// A row to be noted, with its place in what the dependencies can take.
pub(super) type ToNote = (Box<Noting>, Reservation);

/// A running noter.
pub(super) struct Noter(JoinHandle<()>);

impl Noter {
    /// Starts it. It gives rows back to `turns`, and ends with the last of the senders. They are not blocked: the pool
    /// bounds how many rows are under way.
    pub(super) fn start(appliance: &Arc<Appliance>, turns: &Arc<Turns>) -> std::io::Result<(Self, Sender<ToNote>)> {
        let (queue, to_note) = channel();
        let (appliance, turns) = (appliance.clone(), turns.clone());
        let thread = std::thread::Builder::new().name("noter".into()).spawn({
            let heart = appliance.hearts.register("noter", heartbeat::LONGEST);
            move || {
                heart.settle_in();
                note_until_closed(&appliance, &to_note, &turns);
            }
        })?;
        Ok((Self(thread), queue))
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        let _ = self.0.join();
    }
}

fn note_until_closed(appliance: &Appliance, queue: &Receiver<ToNote>, turns: &Turns) {
    loop {
        heartbeat::beat();
        let first = match queue.recv_timeout(LONGEST_SLEEP) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        appliance.closing.wait(GATHER);
        let group = std::iter::once(first).chain(queue.try_iter()).take(GROUP).collect();
        crash_point("rows.noting");
        turns.give_back(write(appliance, group));
    }
}

/// Writes them together or, where that fails, one by one, so that one that cannot be written takes no other with it.
fn write(appliance: &Appliance, mut group: Vec<ToNote>) -> Vec<Noted> {
    // Neighbours in the table share its pages.
    group.sort_by_key(|(noting, _)| noting.note.row);
    match noting::write(appliance, group.iter().map(|(noting, _)| noting.note.clone()).collect()) {
        Ok(held) => {
            let noted = |((noting, reservation), held)| Noted { noting, reservation, held: Ok(held) };
            group.into_iter().zip(held).map(noted).collect()
        }
        // What is in the way of all of them is in the way of each: one by one they would wait for it as many times.
        Err(error) if error.is_passing() => {
            let cause = Arc::new(error);
            let refused = |(noting, reservation)| {
                let held = Err(StoreError::Commit(cause.clone()));
                Noted { noting, reservation, held }
            };
            group.into_iter().map(refused).collect()
        }
        Err(_) => {
            let alone = |(noting, reservation): ToNote| {
                let held = noting::write_one(appliance, &noting.note);
                Noted { noting, reservation, held }
            };
            group.into_iter().map(alone).collect()
        }
    }
}
