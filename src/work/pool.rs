//! The threads that work rows: each takes one claimed row at a time, makes its calls, and leaves its settle to the
//! settler.
//!
//! A row is under way from its claim until its settle is on disk. So that no worker waits for the database, there may be
//! more rows under way than workers: some that wait for one, some that wait to be settled.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{row_work, settler::Settler, settling::Settling, worker::Patience};
use crate::{appliance::Appliance, bell::Bell, downstream::Reservation, store::claims::ClaimedRow};

/// The most rows under way for each thread: the one that it works, and others that wait for a thread or for their settle.
/// It bounds what a pause or a crash finds under way.
pub const ROWS_PER_THREAD: usize = 4;
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
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
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
    jobs: Arc<Mutex<Receiver<Job>>>,
    settles: Sender<Arc<Settling>>,
    rows: Arc<Rows>,
    idle: Bell,
}

impl Pool {
    /// Starts `threads` workers. Each time rows have ended it rings `idle`.
    pub fn start(appliance: &Arc<Appliance>, threads: usize, idle: &Bell) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(threads * ROWS_PER_THREAD);
        let jobs = Arc::new(Mutex::new(jobs));
        let rows = Arc::new(Rows::default());
        let settled = {
            let (rows, idle) = (rows.clone(), idle.clone());
            move |settled| {
                rows.end(settled);
                idle.ring();
            }
        };
        let (settler, settles) = Settler::start(appliance, settled)?;
        let spawn = |number| {
            let hand = Hand {
                appliance: appliance.clone(),
                jobs: jobs.clone(),
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
        Ok(Self { queue: Some(queue), threads, settler, rows })
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

    /// Hands a row to the next free worker.
    pub fn begin(&self, job: Job) {
        self.rows.under_way.fetch_add(1, Ordering::AcqRel);
        self.rows.waiting.fetch_add(1, Ordering::AcqRel);
        // It only fails when every worker is gone, at shutdown: the claim is then freed like any lost one.
        if let Some(queue) = &self.queue {
            let _ = queue.send(job);
        }
    }

    /// Lets the workers end what they have, and waits until that is settled.
    pub fn close(mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.settler.join();
    }
}

impl Hand {
    fn work_until_closed(self) {
        loop {
            let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { claimed, mut reservation }) = next else { return };
            self.rows.waiting.fetch_sub(1, Ordering::AcqRel);
            let walked = row_work::walk(&self.appliance, &claimed, &mut reservation, PATIENCE);
            drop(reservation);
            let unsettled = match walked {
                // It only fails when the settler is gone, by a panic that was told: the claim then expires.
                Ok(Some(settling)) => {
                    self.rows.completed.fetch_add(usize::from(settling.is_completed()), Ordering::AcqRel);
                    self.settles.send(Arc::new(settling)).is_err()
                }
                Ok(None) => true,
                Err(error) => {
                    let row = claimed.row.number();
                    tracing::error!(event = "row.unsettled", row, %error, "a claim could not be ended; it expires");
                    true
                }
            };
            if unsettled {
                self.rows.end(1);
                self.idle.ring();
            }
        }
    }
}
