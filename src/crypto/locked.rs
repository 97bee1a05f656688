//! Secrets that stay in RAM: each alone on pages that the kernel writes to no swap, where it allows that (mlock(2),
//! `RLIMIT_MEMLOCK`).
//!
//! The few that open everything else are kept so: the operator's keys and the appliance's own secret. The data keys of open
//! batches are too many for what a process may lock.

use std::ops::Deref;

use region::LockGuard;

/// On pages of its own: a lock is the page's, and ends for whatever else is on it.
#[repr(align(4096))]
struct Alone<T>(T);

/// A secret that stays in RAM.
pub struct Locked<T> {
    // Before the page, so that it is dropped first: memory that was given back may be somebody else's.
    lock: Option<LockGuard>,
    page: Box<Alone<T>>,
}

impl<T> Locked<T> {
    /// Keeps it so; where that is not allowed, as anything else is kept.
    pub fn new(secret: T) -> Self {
        let page = Box::new(Alone(secret));
        let lock = region::lock(&raw const *page, size_of::<Alone<T>>()).ok();
        Self { lock, page }
    }

    /// Whether the kernel keeps it in RAM.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.page.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("a line");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    #[test]
    fn a_secret_has_pages_of_its_own_and_gives_them_back() {
        let secrets: Vec<_> = (0..3_u8).map(|byte| Locked::new([byte; 32])).collect();
        if !secrets.iter().all(Locked::is_locked) {
            eprintln!("SKIPPED: nothing may be locked here (ulimit -l)");
            return;
        }
        let at = |secret: &Locked<[u8; 32]>| std::ptr::from_ref(&**secret).addr() / 4096;
        assert!(at(&secrets[0]) != at(&secrets[1]) && at(&secrets[1]) != at(&secrets[2]));
        assert_eq!((*secrets[2])[31], 2);
        assert!(locked_kib() >= 12);
        let big = Locked::new([0_u8; 100_000]);
        let with_it = locked_kib();
        drop(big);
        assert!(locked_kib() <= with_it - 60, "{with_it}");
    }
}
