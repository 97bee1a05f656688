//! The only clock. Everything that asks what time it is asks here, so that tests can turn it by hand.
//!
//! Two kinds of time, because they answer different questions:
//! - [`Clock::now`], the wall clock: what is shown, and what is compared across restarts (claims, retries, runs). It
//!   may be set back or forth under us.
//! - [`Clock::steady`], nanoseconds since the machine started: what rates are kept by. It never jumps, goes on while
//!   the machine sleeps, and is the same for every process on the machine (Linux `CLOCK_BOOTTIME`, clock_gettime(2)).
//!   It means nothing after a reboot, so it is stored together with [`Clock::boot`].

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use crate::model::Timestamp;

/// A source of time: the machine's, or one turned by hand.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Machine { boot: Arc<str>, set_off_ms: Arc<AtomicI64> },
    Manual(Arc<Mutex<Manual>>),
}

struct Manual {
    wall_ms: i64,
    steady_ns: i64,
    boot: Arc<str>,
}

impl Clock {
    /// The machine's own clocks.
    pub fn machine() -> Self {
        // Where the kernel does not tell, a name of our own makes every start look like the first after a boot: the
        // limiter then waits instead of trusting a clock that it cannot place.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_else(|_| format!("unknown-{:016x}", rand::random::<u64>()));
        Self(Source::Machine { boot: boot.into(), set_off_ms: Arc::default() })
    }

    /// A clock that stands still until it is told otherwise; clones turn together.
    pub fn manual(wall: Timestamp) -> Self {
        let manual = Manual { wall_ms: wall.0, steady_ns: 1_000_000_000, boot: "boot-1".into() };
        Self(Source::Manual(Arc::new(Mutex::new(manual))))
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Machine { set_off_ms, .. } => {
                Timestamp(machine_wall().0.saturating_add(set_off_ms.load(Ordering::Relaxed)))
            }
            Source::Manual(manual) => Timestamp(lock(manual).wall_ms),
        }
    }

    /// Nanoseconds since the machine started.
    pub fn steady(&self) -> i64 {
        match &self.0 {
            Source::Machine { .. } => {
                let time = clock_gettime(ClockId::Boottime);
                time.tv_sec * 1_000_000_000 + time.tv_nsec
            }
            Source::Manual(manual) => lock(manual).steady_ns,
        }
    }

    /// Which start of the machine [`Clock::steady`] counts from.
    pub fn boot(&self) -> Arc<str> {
        match &self.0 {
            Source::Machine { boot, .. } => boot.clone(),
            Source::Manual(manual) => lock(manual).boot.clone(),
        }
    }

    /// Lets time pass on a manual clock. Does nothing to the machine's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let mut manual = lock(manual);
            manual.wall_ms += by.as_millis() as i64;
            manual.steady_ns += by.as_nanos() as i64;
        }
    }

    /// Sets the wall clock, for this clock's clones alone, as an operator or NTP would set the machine's; steady time does
    /// not notice.
    pub fn set_wall(&self, to: Timestamp) {
        match &self.0 {
            Source::Machine { set_off_ms, .. } => set_off_ms.store(to.0 - machine_wall().0, Ordering::Relaxed),
            Source::Manual(manual) => lock(manual).wall_ms = to.0,
        }
    }

    /// Starts the machine of a manual clock anew: steady time begins again, under another boot.
    pub fn reboot(&self, boot: &str) {
        if let Source::Manual(manual) = &self.0 {
            let mut manual = lock(manual);
            manual.steady_ns = 1_000_000_000;
            manual.boot = boot.into();
        }
    }
}

fn machine_wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

fn lock(manual: &Mutex<Manual>) -> MutexGuard<'_, Manual> {
    manual.lock().unwrap_or_else(PoisonError::into_inner)
}
