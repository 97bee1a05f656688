//! The threads that work rows: each takes one claimed row at a time, makes its calls, leaves its notes to the noter
//! and its settle to the settler.
//!
//! A row is under way from its claim until its settle is on disk. So that no worker waits for the database, there may
//! be more rows under way than workers: some that wait for one, some that wait to be noted or settled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    ending::Ended,
    noter::{Noter, ToNote},
    row_work::{self, Walked},
    settler::Settler,
    settling::Settling,
    turns::{Noted, Turn, Turns},
    worker::Patience,
};
use crate::{
    appliance::Appliance,
    bell::Bell,
    downstream::Reservation,
    model::RowId,
    store::{StoreError, claims::ClaimedRow},
};

/// The most rows under way for each thread: the one that it works, and others that wait for a thread, a note or a
/// settle. It bounds what a pause or a crash finds under way.
pub const ROWS_PER_THREAD: usize = 8;
/// How long a worker waits for a permit before it gives the row back and turns to another.
const PATIENCE: Patience = Patience::Brief(Duration::from_secs(2));
/// A worker's stack: its work is flat, its buffers are on the heap.
const WORKER_STACK: usize = 512 * 1024;

/// A claimed row, and its place in what the dependencies can take.
pub struct Job {
    /// The row.
    pub claimed: ClaimedRow,
    /// Given back when the row's work ends.
    pub reservation: Reservation,
}

/// A fixed number of worker threads.
pub struct Pool {
    turns: Arc<Turns>,
    threads: Vec<JoinHandle<()>>,
    noter: Noter,
    settler: Settler,
    rows: Arc<Rows>,
}

/// How many rows there are, for the feeder.
#[derive(Default)]
struct Rows {
    /// Claimed, and not settled yet.
    under_way: AtomicUsize,
    /// Claimed, and no worker has begun with it.
    waiting: AtomicUsize,
    /// Gone through their last step since the start.
    completed: AtomicUsize,
}

impl Rows {
    fn end(&self, rows: usize) {
        self.under_way.fetch_sub(rows, Ordering::AcqRel);
    }
}

/// What a worker thread has.
struct Hand {
    appliance: Arc<Appliance>,
    turns: Arc<Turns>,
    notes: Sender<ToNote>,
    settles: Sender<Arc<Settling>>,
    rows: Arc<Rows>,
    idle: Bell,
}

impl Pool {
    /// Starts `threads` workers. Each time rows have ended it rings `idle`.
    pub fn start(appliance: &Arc<Appliance>, threads: usize, idle: &Bell) -> std::io::Result<Self> {
        let turns = Arc::new(Turns::default());
        let rows = Arc::new(Rows::default());
        let settled = {
            let (appliance, rows, idle) = (appliance.clone(), rows.clone(), idle.clone());
            move |settled: &[RowId]| {
                appliance.under_way.end(settled);
                rows.end(settled.len());
                idle.ring();
            }
        };
        let (settler, settles) = Settler::start(appliance, settled)?;
        let (noter, notes) = Noter::start(appliance, &turns)?;
        let spawn = |number| {
            let hand = Hand {
                appliance: appliance.clone(),
                turns: turns.clone(),
                notes: notes.clone(),
                settles: settles.clone(),
                rows: rows.clone(),
                idle: idle.clone(),
            };
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .stack_size(WORKER_STACK)
                .spawn(move || hand.work_until_closed())
        };
        let threads = (0..threads).map(spawn).collect::<std::io::Result<_>>()?;
        Ok(Self { turns, threads, noter, settler, rows })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Rows that are claimed and not settled.
    pub fn under_way(&self) -> usize {
        self.rows.under_way.load(Ordering::Acquire)
    }

    /// Those of them that no worker has begun with.
    pub fn waiting(&self) -> usize {
        self.rows.waiting.load(Ordering::Acquire)
    }

    /// Rows that went through their last step since the start.
    pub fn completed(&self) -> usize {
        self.rows.completed.load(Ordering::Acquire)
    }

    /// Hands rows to the next free workers.
    pub fn begin(&self, appliance: &Appliance, jobs: Vec<Job>) {
        appliance.under_way.begin(jobs.iter().map(|job| &job.claimed));
        self.rows.under_way.fetch_add(jobs.len(), Ordering::AcqRel);
        self.rows.waiting.fetch_add(jobs.len(), Ordering::AcqRel);
        self.turns.begin(jobs);
    }

    /// Lets the workers end what they have, and waits until that is settled.
    pub fn close(mut self) {
        self.turns.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.noter.join();
        self.settler.join();
    }
}

impl Hand {
    fn work_until_closed(self) {
        while let Some(turn) = self.turns.next() {
            let (row, walked, mut reservation) = match turn {
                Turn::Begin(Job { claimed, mut reservation }) => {
                    self.rows.waiting.fetch_sub(1, Ordering::AcqRel);
                    let row = claimed.row;
                    (row, row_work::begin(&self.appliance, claimed, &mut reservation, PATIENCE), reservation)
                }
                Turn::GoOn(Noted { noting, mut reservation, held }) => {
                    let row = noting.note.row;
                    (row, row_work::go_on(&self.appliance, *noting, held, &mut reservation), reservation)
                }
            };
            let goes_on = match walked {
                // Of requests that are never sent again a death finds no more between note and outcome than there are
                // threads: each leaves with its worker, who stays with the row.
                Ok(Walked::Noting(noting)) if noting.is_once_only() => {
                    let noted = Walked::Noting(noting);
                    let ended = row_work::to_its_end(&self.appliance, noted, &mut reservation);
                    self.rows.completed.fetch_add(usize::from(matches!(ended, Ok(Ended::Completed))), Ordering::AcqRel);
                    if let Err(error) = ended {
                        not_ended(row, &error);
                    }
                    false
                }
                // Handing over only fails when the noter or the settler is gone, by a panic that was told: the claim
                // then expires.
                Ok(Walked::Noting(noting)) => {
                    self.turns.lend();
                    self.notes.send((noting, reservation)).is_ok()
                }
                Ok(Walked::Ended(settling)) => {
                    drop(reservation);
                    self.rows.completed.fetch_add(usize::from(settling.is_completed()), Ordering::AcqRel);
                    self.settles.send(Arc::from(settling)).is_ok()
                }
                Ok(Walked::TakenOver) => false,
                Err(error) => {
                    not_ended(row, &error);
                    false
                }
            };
            if !goes_on {
                self.appliance.under_way.end(&[row]);
                self.rows.end(1);
                self.idle.ring();
            }
        }
    }
}

fn not_ended(row: RowId, error: &StoreError) {
    let row = row.number();
    tracing::error!(event = "row.unsettled", row, %error, "a claim could not be ended; it expires");
}
