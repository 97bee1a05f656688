//! A connection that sends a request in one piece. ureq hands over head and body one after the other; each would be a
//! packet of its own, and wake the other side for half a request. Here both wait until the answer is waited for.

use std::time::Duration;

use ureq::{
    Error,
    unversioned::transport::{Buffers, NextTimeout, Transport},
};

/// Timeouts are rounded up to whole steps of this: to set one exactly is a call of the kernel for every read and write,
/// as each has a little less time left than the one before.
const TIMEOUT_STEP: Duration = Duration::from_millis(100);

/// Holds back what is to be sent, up to the size of the output buffer.
#[derive(Debug)]
pub(super) struct Gathering<T> {
    inner: T,
    held: Vec<u8>,
}

impl<T: Transport> Gathering<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, held: Vec::new() }
    }

    fn send_held(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut held = std::mem::take(&mut self.held);
        let piece = self.inner.buffers().output().len().max(1);
        for piece in held.chunks(piece) {
            self.inner.buffers().output()[..piece.len()].copy_from_slice(piece);
            self.inner.transmit_output(piece.len(), timeout)?;
        }
        held.clear();
        self.held = held;
        Ok(())
    }
}

impl<T: Transport> Transport for Gathering<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let is_much = self.held.len() + amount > output.len();
        self.held.extend_from_slice(&output[..amount]);
        if is_much { self.send_held(in_steps(timeout)) } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = in_steps(timeout);
        self.send_held(timeout)?;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.held.is_empty() && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Time that is up stays up.
fn in_steps(timeout: NextTimeout) -> NextTimeout {
    let Some(left) = timeout.not_zero().filter(|_| !timeout.after.is_zero()) else { return timeout };
    let steps = u32::try_from(left.as_nanos().div_ceil(TIMEOUT_STEP.as_nanos())).unwrap_or(u32::MAX);
    NextTimeout { after: TIMEOUT_STEP.saturating_mul(steps).into(), ..timeout }
}

#[cfg(test)]
mod tests {
    use ureq::{Timeout, unversioned::transport::LazyBuffers};

    use super::*;

    /// Notes what is sent, and with which timeouts.
    #[derive(Debug)]
    struct Wire {
        buffers: LazyBuffers,
        sent: Vec<Vec<u8>>,
        timeouts: Vec<Duration>,
    }

    impl Transport for Wire {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
            self.sent.push(self.buffers.output()[..amount].to_vec());
            self.timeouts.push(*timeout.after);
            Ok(())
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
            self.timeouts.push(*timeout.after);
            Ok(true)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    fn timeout(left: Duration) -> NextTimeout {
        NextTimeout { after: left.into(), reason: Timeout::Global, per_read: None, per_write: None }
    }

    fn write(connection: &mut Gathering<Wire>, bytes: &[u8]) {
        connection.buffers().output()[..bytes.len()].copy_from_slice(bytes);
        connection.transmit_output(bytes.len(), timeout(Duration::from_millis(950))).expect("taken");
    }

    #[test]
    fn head_and_body_leave_in_one_piece_when_the_answer_is_waited_for_and_much_leaves_at_once() {
        let wire = Wire { buffers: LazyBuffers::new(64, 8), sent: Vec::new(), timeouts: Vec::new() };
        let mut connection = Gathering::new(wire);
        write(&mut connection, b"head");
        write(&mut connection, b"body");
        assert_eq!(connection.inner.sent.len(), 0);
        assert!(!connection.is_open(), "it is in the middle of a request");
        assert!(connection.await_input(timeout(Duration::from_millis(901))).expect("an answer"));
        assert_eq!(connection.inner.sent, [b"headbody"]);
        assert!(connection.is_open());

        write(&mut connection, b"longhead");
        write(&mut connection, b"rest");
        assert_eq!(connection.inner.sent[1..], [b"longhead".to_vec(), b"rest".to_vec()]);
        assert!(connection.inner.timeouts.iter().all(|timeout| *timeout == Duration::from_secs(1)));
        assert!(in_steps(timeout(Duration::ZERO)).after.is_zero());
    }
}
