//! Callers who ask and then do not take the answer, or a byte of it now and then: their connection is closed, so that it
//! does not stay open, with whatever its answer holds, for as long as they like.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::http::pace::Pace;

/// A connection that breaks when the other end takes next to nothing of what is written while we wait for it so long.
pub struct Impatient<S> {
    inner: S,
    pace: Pace,
    /// How many more bytes may come, where that is limited.
    may_come: Option<usize>,
    /// When it is judged, while something waits to be written.
    judged: Pin<Box<Sleep>>,
    waits_since: Option<Instant>,
}

impl<S> Impatient<S> {
    /// Waits no longer than `longest` for a least amount to be taken.
    pub fn new(inner: S, longest: Duration) -> Self {
        Self { inner, pace: Pace::new(longest), may_come: None, judged: Box::pin(sleep(longest)), waits_since: None }
    }

    /// Breaks when more comes than so many bytes; `None`: anything may come.
    pub fn let_come(&mut self, bytes: Option<usize>) {
        self.may_come = bytes;
    }

    /// What came of writing, or an error if too little came of it for too long.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Ok(told)) = &written {
            let waited = self.waits_since.take().map_or(Duration::ZERO, |since| since.elapsed());
            self.pace.came(waited, bytes(told)).map_err(too_slow)?;
        }
        if written.is_ready() {
            return written;
        }
        loop {
            let since = match self.waits_since {
                Some(since) => since,
                None => {
                    let now = Instant::now();
                    self.judged.as_mut().reset(now + self.pace.left());
                    *self.waits_since.insert(now)
                }
            };
            if self.judged.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // Even if the clock thinks that a little is missing: the window is over.
            self.pace.came(since.elapsed().max(self.pace.left()), 0).map_err(too_slow)?;
            self.waits_since = None;
        }
    }
}

fn too_slow(error: crate::http::pace::TooSlow) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, error)
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        if let Some(left) = &mut this.may_come {
            let came = buffer.filled().len() - before;
            *left = left.checked_sub(came).ok_or(io::ErrorKind::FileTooLarge)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.in_time(context, written, |bytes| *bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, pieces);
        this.in_time(context, written, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.in_time(context, flushed, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(context);
        this.in_time(context, shut, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(work)
    }

    #[test]
    fn breaks_where_nothing_is_taken_and_not_where_it_is_taken_slowly() {
        run(async {
            let (ours, theirs) = duplex(8);
            let mut ours = Impatient::new(ours, Duration::from_millis(50));
            let error = ours.write_all(&[1; 64]).await.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(theirs);
        });
        run(async {
            let (ours, mut theirs) = duplex(8);
            let mut ours = Impatient::new(ours, Duration::from_secs(3600));
            // Nothing here comes near the end of a window.
            let reading = async {
                let mut taken = [0; 64];
                for byte in &mut taken {
                    *byte = theirs.read_u8().await.expect("a byte");
                    tokio::task::yield_now().await;
                }
                taken
            };
            let (written, taken) = tokio::join!(ours.write_all(&[7; 64]), reading);
            assert!(written.is_ok() && taken == [7; 64]);
        });
        run(async {
            let (ours, mut theirs) = duplex(8);
            let mut ours = Impatient::new(ours, Duration::from_millis(200));
            let trickle = async {
                while theirs.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let broken = async {
                let error = ours.write_all(&[7; 4096]).await.expect_err("a byte now and then is too little");
                drop(ours);
                error.kind()
            };
            assert_eq!(tokio::join!(broken, trickle).0, io::ErrorKind::TimedOut);
        });
    }
}
