//! The thread that makes the calls: one runtime for all of them, because a call waits much longer than it works. The ways of
//! rows run there; a command that works one row hands it over, and waits.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::heartbeat::{self, Heartbeats};

/// How often the thread gives a sign of life, whatever it is at.
const BEAT: Duration = Duration::from_secs(10);

/// Threads for what blocks: whether a batch stands still.
const BLOCKING_THREADS: usize = 8;

/// The thread of the calls. Dropped, it ends, with what is still under way there.
pub(super) struct Bridge {
    runtime: Handle,
    /// Dropped, the thread ends.
    open: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Starts the thread.
    pub(super) fn start(hearts: &Heartbeats) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
        let (handle, heart) = (runtime.handle().clone(), hearts.register("calls", heartbeat::LONGEST));
        let (open, mut closed) = oneshot::channel();
        let thread = thread::Builder::new().name("calls".to_owned()).spawn(move || {
            heart.settle_in();
            while runtime.block_on(async { tokio::time::timeout(BEAT, &mut closed).await }).is_err() {
                heartbeat::beat();
            }
            // A lookup that hangs must not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, open: Some(open), thread: Some(thread) })
    }

    /// Lets the thread do this, beside all else.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Lets the thread do this, and waits for it; `None` where the thread ended meanwhile.
    pub(super) fn wait_for<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.runtime.spawn(async move {
            // Who waits for it is still there.
            let _ = done.send(work.await);
        });
        result.blocking_recv().ok()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wait_beside_each_other_and_the_thread_ends_with_the_last() {
        let bridge = Bridge::start(&Heartbeats::default()).expect("a thread");
        let (first, second) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let both = std::sync::Arc::new((first, second));
        let [here, there] = [both.clone(), both];
        // Each waits for the other: one after the other they would never end.
        let answers = thread::scope(|scope| {
            let one = scope.spawn(|| {
                bridge.wait_for(async move {
                    here.0.notify_one();
                    here.1.notified().await;
                    1
                })
            });
            let other = bridge.wait_for(async move {
                there.1.notify_one();
                there.0.notified().await;
                2
            });
            (one.join().expect("no panic"), other)
        });
        assert_eq!(answers, (Some(1), Some(2)));
        drop(bridge);
    }
}
