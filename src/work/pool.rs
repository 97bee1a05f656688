//! The rows under way: each is one owned value that goes its way on the thread of the calls, leaves its notes to the noter and
//! its settle to the settler. A row that waits, for a permit, an answer or the disk, holds no thread.
//!
//! A row is under way from its claim until its settle is on disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

use super::{
    noter::{Noter, Notes},
    row_work::{self, Opened},
    settler::Settler,
    settling::Settling,
    worker::{Patience, Worker},
};
use crate::{appliance::Appliance, bell::Bell, downstream::Reservation, model::RowId, store::claims::ClaimedRow};

/// How long a row waits for a permit before it is given back and another one claimed.
const PATIENCE: Patience = Patience::Brief(Duration::from_secs(2));
/// How often it is looked, at the end, whether the last row has ended: each end rings besides.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A claimed row, and its place in what the dependencies can take.
pub struct Job {
    /// The row.
    pub claimed: ClaimedRow,
    /// Given back when the row's work ends.
    pub reservation: Reservation,
}

/// Where claimed rows are worked.
pub struct Pool {
    hand: Hand,
    most: usize,
    noter: Noter,
    settler: Settler,
}

/// What a row under way needs. Clones lead to the same noter and settler.
#[derive(Clone)]
struct Hand {
    appliance: Arc<Appliance>,
    notes: Notes,
    settles: Sender<Arc<Settling>>,
    /// Rows that are claimed, and not settled yet.
    under_way: Arc<AtomicUsize>,
    idle: Bell,
}

impl Pool {
    /// For at most `most` rows under way. Each time rows have ended it rings `idle`.
    pub fn start(appliance: &Arc<Appliance>, most: usize, idle: &Bell) -> std::io::Result<Self> {
        let under_way = Arc::new(AtomicUsize::new(0));
        let settled = {
            let (appliance, under_way, idle) = (appliance.clone(), under_way.clone(), idle.clone());
            move |settled: &[RowId]| end(&appliance, &under_way, &idle, settled)
        };
        let (settler, settles) = Settler::start(appliance, settled)?;
        let (noter, notes) = Notes::open(appliance)?;
        let hand = Hand { appliance: appliance.clone(), notes, settles, under_way, idle: idle.clone() };
        Ok(Self { hand, most, noter, settler })
    }

    /// How many rows may be under way.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Rows that are claimed and not settled.
    pub fn under_way(&self) -> usize {
        self.hand.under_way.load(Ordering::Acquire)
    }

    /// Sends rows on their way.
    pub fn begin(&self, jobs: Vec<Job>) {
        let Hand { appliance, under_way, .. } = &self.hand;
        appliance.under_way.begin(jobs.iter().map(|job| (&job.claimed, job.reservation.dependency())));
        under_way.fetch_add(jobs.len(), Ordering::AcqRel);
        let mut workers = Vec::with_capacity(jobs.len());
        for Job { claimed, reservation } in jobs {
            let row = claimed.row;
            match row_work::open(appliance, claimed, PATIENCE) {
                Ok(Opened::Worker(worker)) => workers.push((worker, reservation)),
                Ok(Opened::Ended(settling)) => self.hand.settle(row, Some(settling)),
                Err(error) => {
                    let number = row.number();
                    tracing::error!(
                        event = "row.unsettled",
                        row = number,
                        %error,
                        "a claim could not be ended; it expires"
                    );
                    self.hand.end(row);
                }
            }
        }
        let hand = self.hand.clone();
        // All of them by one wake of that thread: each that comes from another thread is a system call there.
        appliance.downstream.spawn(async move {
            for (worker, reservation) in workers {
                tokio::spawn(hand.clone().work(worker, reservation));
            }
        });
    }

    /// Waits until all rows have ended, and that is settled.
    pub fn close(self) {
        while self.under_way() > 0 {
            self.hand.idle.wait(LOOK_AGAIN);
        }
        drop(self.hand);
        self.noter.join();
        self.settler.join();
    }
}

impl Hand {
    async fn work(self, worker: Box<Worker>, reservation: Reservation) {
        let row = worker.row();
        let settling = worker.walk(reservation, &self.notes).await;
        self.settle(row, settling);
    }

    fn settle(&self, row: RowId, settling: Option<Box<Settling>>) {
        // Handing over only fails when the settler is gone, by a panic that was told: the claim then expires.
        let is_handed_over = settling.is_some_and(|settling| self.settles.send(Arc::from(settling)).is_ok());
        if !is_handed_over {
            self.end(row);
        }
    }

    fn end(&self, row: RowId) {
        end(&self.appliance, &self.under_way, &self.idle, &[row]);
    }
}

fn end(appliance: &Appliance, under_way: &AtomicUsize, idle: &Bell, ended: &[RowId]) {
    appliance.under_way.end(ended);
    under_way.fetch_sub(ended.len(), Ordering::AcqRel);
    idle.ring();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the future takes that this makes.
    fn bytes<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn thousands_of_rows_may_wait_beside_each_other() {
        let bytes = bytes(Hand::work);
        assert!(bytes <= 4 * 1024, "{bytes} bytes for each row that is under way");
    }
}
