//! What becomes of a panic: it ends the process, unless somebody stands behind it who answers for it.
//!
//! A server is a handful of threads that need each other. When one of them is gone (a fault of ours, or memory or a thread
//! that could not be had) the others wait for it for ever, and what looks ready does nothing. Nothing of its state is
//! worth being saved: everything is on disk, and a start is made to go on from there. So the hook tells where it was, and
//! ends the process with the exit status of a failure, whichever thread it befell, before anything is unwound.
//!
//! `panic = "abort"` would do the same for every thread alike, and would say so by a signal. But a request of one caller
//! must not end the work of all others: what a handler panics at is told, and answered with 500 ([`contained`],
//! [`caught`]). That holds for what runs on the handler's own thread. What it handed to the writer runs in a transaction
//! that others share, and what it handed to rayon has nobody who waits for it: those end the process.
//!
//! Where memory runs out no panic comes: `handle_alloc_error` aborts, which ends the process as well. SQLite asks for memory of
//! its own, and only says that it had none: with each call failing, the server would be up and do nothing. So that ends
//! the process too ([`end_for_want_of_memory`]). A thread that cannot be
//! started is an error where it is started, and a panic in the libraries that start their own.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, PanicHookInfo},
    pin::pin,
};

use futures_util::FutureExt;

/// The exit status of a failure.
const FAILED: i32 = 1;

thread_local! {
    /// Whether somebody answers for what this thread is at.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// What is left of a panic that was caught. It was told when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// From here on a panic ends the process, and is an event. To be called once the log is set up.
pub fn end_the_process() {
    std::panic::set_hook(Box::new(tell));
}

/// Runs what may panic without ending the process. Whoever calls this catches it: a task of tokio's is one who does.
pub fn contained<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_CONTAINED.set(self.0);
        }
    }
    let _before = Before(IS_CONTAINED.replace(true));
    work()
}

/// Runs a future of which a panic is caught.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    let ended = poll_fn(|context| contained(|| future.as_mut().poll(context))).await;
    ended.map_err(|_| Panicked)
}

/// Ends the process because the machine had no memory for it.
pub fn end_for_want_of_memory() -> ! {
    tracing::error!(
        event = "memory.exhausted",
        thread = std::thread::current().name(),
        "the database could have no memory, and the process ends: its next start goes on from what is on disk"
    );
    std::process::exit(FAILED);
}

/// Where, and what only if it is a literal: any other message can quote what was choked on.
fn tell(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let (thread, said) = (std::thread::current(), panic.payload().downcast_ref::<&'static str>());
    let (thread, ends_process) = (thread.name(), !IS_CONTAINED.get());
    if ends_process {
        tracing::error!(
            event = "thread.panicked",
            location,
            thread,
            said,
            ends_process,
            "a thread panicked, and the process ends: its next start goes on from what is on disk"
        );
        std::process::exit(FAILED);
    }
    tracing::error!(
        event = "thread.panicked",
        location,
        thread,
        said,
        ends_process,
        "a handler panicked, and what it was asked is answered with an error"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_contained_is_so_until_it_ends_however_it_does() {
        assert!(!IS_CONTAINED.get());
        contained(|| assert!(contained(|| IS_CONTAINED.get()) && IS_CONTAINED.get()));
        assert!(!IS_CONTAINED.get());
        let panicked = std::panic::catch_unwind(|| contained(|| panic!("on purpose")));
        assert!(panicked.is_err() && !IS_CONTAINED.get());
    }

    #[test]
    fn a_future_that_panics_is_caught() {
        use futures_util::FutureExt as _;
        assert_eq!(Box::pin(caught(async { 7 })).now_or_never(), Some(Ok(7)));
        let panics = caught(async { if IS_CONTAINED.get() { panic!("on purpose") } else { 7 } });
        assert_eq!(Box::pin(panics).now_or_never(), Some(Err(Panicked)));
    }
}
