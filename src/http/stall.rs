//! Callers who ask and then do not take the answer: their connection is closed, so that it does not stay open, with
//! whatever its answer holds, for as long as they like.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A connection that breaks when the other end takes nothing of what is written for so long.
pub struct Impatient<S> {
    inner: S,
    longest: Duration,
    /// When it breaks, while something waits to be written.
    breaks: Pin<Box<Sleep>>,
    waits: bool,
}

impl<S> Impatient<S> {
    /// Waits no longer than `longest` for any piece to be taken.
    pub fn new(inner: S, longest: Duration) -> Self {
        Self { inner, longest, breaks: Box::pin(sleep(longest)), waits: false }
    }

    /// What came of writing, or an error if that has been pending for too long.
    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        if !self.waits {
            self.waits = true;
            self.breaks.as_mut().reset(Instant::now() + self.longest);
        }
        self.breaks.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.in_time(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, pieces);
        this.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.in_time(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(context);
        this.in_time(context, shut)
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
    }
}
