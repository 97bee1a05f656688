//! The threads that work rows: each takes one claimed row at a time, and makes its calls.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{ending::Ended, row_work, worker::Patience};
use crate::{appliance::Appliance, bell::Bell, downstream::Reservation, store::claims::ClaimedRow};

/// How long a worker waits for a permit before it gives the row back and turns to another.
const PATIENCE: Patience = Patience::Brief(Duration::from_secs(2));

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
    busy: Arc<AtomicUsize>,
}

impl Pool {
    /// Starts `threads` workers. Each time one has ended a row it rings `idle`.
    pub fn start(appliance: &Arc<Appliance>, threads: usize, idle: &Bell) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        let busy = Arc::new(AtomicUsize::new(0));
        let spawn = |number| {
            let (appliance, jobs, busy, idle) = (appliance.clone(), jobs.clone(), busy.clone(), idle.clone());
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .stack_size(WORKER_STACK)
                .spawn(move || work_until_closed(&appliance, &jobs, &busy, &idle))
        };
        let threads = (0..threads).map(spawn).collect::<std::io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads, busy })
    }

    /// Rows that could be begun at once.
    pub fn idle(&self) -> usize {
        self.threads.len().saturating_sub(self.busy.load(Ordering::Acquire))
    }

    /// Hands a row to the next free worker.
    pub fn begin(&self, job: Job) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        // It only fails when every worker is gone, at shutdown: the claim is then freed like any lost one.
        if let Some(queue) = &self.queue {
            let _ = queue.send(job);
        }
    }

    /// Lets the workers end what they have, and waits for them.
    pub fn close(mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A worker's stack: its work is flat, its buffers are on the heap.
const WORKER_STACK: usize = 512 * 1024;

fn work_until_closed(appliance: &Appliance, jobs: &Mutex<Receiver<Job>>, busy: &AtomicUsize, idle: &Bell) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { claimed, mut reservation }) = next else { return };
        match row_work::work(appliance, &claimed, &mut reservation, PATIENCE) {
            Ok(Ended::Failed(code)) => {
                tracing::debug!(row = claimed.row.number(), code = code.as_str(), "a row failed");
            }
            Ok(Ended::Completed | Ended::Released(_) | Ended::TakenOver) => {}
            Err(error) => tracing::error!(row = claimed.row.number(), %error, "a claim could not be ended; it expires"),
        }
        drop(reservation);
        busy.fetch_sub(1, Ordering::AcqRel);
        idle.ring();
    }
}
