//! The bookkeeper: the one thread that talks to the ledger, so that no thread with a request to send ever waits for a
//! disk while it holds a lock or a slot. It gets leases before they are needed, saves gates when they change, and
//! reads now and then what other processes and operators have changed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{lane::Lane, ledger::Ledger};
use crate::clock::Clock;

/// How soon a change that another process made is seen here.
pub const REFRESH: Duration = Duration::from_secs(1);

/// A running bookkeeper. Dropped, it finishes what it has to save and ends.
pub struct Bookkeeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bookkeeper {
    /// Starts the thread, for these lanes.
    pub fn start(lanes: Vec<Arc<Lane>>, ledger: Arc<dyn Ledger>, clock: Clock) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { lanes: lanes.clone(), ledger, clock, stop: stop.clone() };
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || work.run())?;
        lanes.iter().for_each(|lane| lane.set_bookkeeper(thread.thread().clone()));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Bookkeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Work {
    lanes: Vec<Arc<Lane>>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(&self) {
        let mut read_at = self.clock.steady();
        loop {
            // Read first: what was to be done when we were told to stop is then still done once.
            let stopping = self.stop.load(Ordering::Acquire);
            let busy = self.lanes.iter().fold(false, |busy, lane| self.save_gate(lane) | self.lease(lane) | busy);
            if stopping {
                return;
            }
            if self.clock.steady().saturating_sub(read_at) >= REFRESH.as_nanos() as i64 {
                read_at = self.clock.steady();
                self.lanes.iter().for_each(|lane| self.refresh(lane));
            } else if !busy {
                thread::park_timeout(REFRESH);
            }
        }
    }

    /// Gets a lease if somebody needs one. Says whether it did.
    fn lease(&self, lane: &Lane) -> bool {
        let Some(ask) = lane.wanted_lease() else { return false };
        let lease = self.ledger.lease(&ask);
        if let Err(error) = &lease {
            tracing::error!(
                event = "limiter.no_lease",
                dependency = ask.dependency,
                %error,
                "no lease: its requests wait"
            );
        }
        lane.leased(&ask, lease.ok());
        true
    }

    /// Saves the gate if it changed. Says whether it did; a failure is tried again with the next refresh.
    fn save_gate(&self, lane: &Lane) -> bool {
        let Some(gate) = lane.unsaved_gate() else { return false };
        match self.ledger.save_gate(&lane.settings.name, &gate) {
            Ok(()) => true,
            Err(error) => {
                let dependency = &lane.settings.name;
                tracing::error!(event = "gate.not_saved", dependency, %error, "the gate's state is not saved yet");
                lane.gate_not_saved();
                false
            }
        }
    }

    fn refresh(&self, lane: &Lane) {
        let revision = lane.revision();
        match self.ledger.load(&lane.settings.name) {
            Ok(Some(kept)) => lane.adopt(revision, &kept),
            Ok(None) => {}
            Err(error) => {
                let dependency = &lane.settings.name;
                tracing::warn!(
                    event = "limiter.not_refreshed",
                    dependency,
                    %error,
                    "changes made elsewhere are not seen"
                );
            }
        }
    }
}
