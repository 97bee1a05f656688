//! A TCP connection as ureq wants one. ureq's own asks whether a connection is still open twice for each request, by
//! three calls of the kernel each time; here it is one call for each request.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use ureq::{
    Error, Timeout,
    unversioned::transport::{Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport},
};

/// A connected socket that blocks, and its buffers.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// As they are set: setting one is a call of the kernel.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// Whether something was received since it was last asked whether the connection is open.
    is_fresh: bool,
}

impl Socket {
    /// Connects to one of a name's addresses, the first that takes it. Each gets its share of the time that is left,
    /// so that one that does not answer leaves some to those behind it.
    pub(super) fn connect(details: &ConnectionDetails<'_>) -> Result<Self, Error> {
        let deadline = left_of(details.timeout)?.and_then(|left| Instant::now().checked_add(left));
        let mut refused = None;
        for (tried, address) in details.addrs.iter().enumerate() {
            let others = u32::try_from(details.addrs.len() - tried).unwrap_or(1);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout(details.timeout.reason));
            }
            match connect(*address, left.map(|left| left / others)) {
                Ok(stream) => {
                    let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
                    return Ok(Self::over(stream, LazyBuffers::new(input, output)));
                }
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if error.kind() == io::ErrorKind::TimedOut => Err(Error::Timeout(Timeout::Connect)),
            Some(error) => Err(Error::Io(error)),
            None => Err(Error::HostNotFound),
        }
    }

    fn over(stream: TcpStream, buffers: LazyBuffers) -> Self {
        Self { stream, buffers, read_timeout: None, write_timeout: None, is_fresh: false }
    }
}

fn connect(address: SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let stream = match timeout {
        Some(timeout) => TcpStream::connect_timeout(&address, timeout)?,
        None => TcpStream::connect(address)?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let left = left_of(timeout)?;
        if left != self.write_timeout {
            self.stream.set_write_timeout(left)?;
            self.write_timeout = left;
        }
        self.stream.write_all(&self.buffers.output()[..amount]).map_err(|error| told(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let begun = Instant::now();
        let mut left = left_of(timeout)?;
        let received = loop {
            if left != self.read_timeout {
                self.stream.set_read_timeout(left)?;
                self.read_timeout = left;
            }
            match self.stream.read(self.buffers.input_append_buf()) {
                // A signal came, and the kernel forgot how long it had waited (socket(7), SO_RCVTIMEO).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if left.is_some() {
                        let after = timeout.after.saturating_sub(begun.elapsed()).into();
                        left = left_of(NextTimeout { after, ..timeout })?;
                    }
                }
                received => break received.map_err(|error| told(error, timeout))?,
            }
        };
        self.buffers.input_appended(received);
        self.is_fresh = true;
        Ok(received > 0)
    }

    /// Asked when a request is over, and again before the next. The second answer is the one that counts: whatever
    /// comes or ends in between shows there, so the first is given without a look.
    fn is_open(&mut self) -> bool {
        if std::mem::take(&mut self.is_fresh) {
            return true;
        }
        // Open is where there is nothing to read: no end, and no bytes that nobody asked for.
        let look = recv(&self.stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(look, Err(Errno::AGAIN))
    }
}

/// The time that is left, where it is bounded. To a socket no time at all would mean no bound.
fn left_of(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_zero() { Err(Error::Timeout(timeout.reason)) } else { Ok(timeout.not_zero().map(|left| *left)) }
}

/// A socket whose timeout is up says that it would block.
fn told(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (Socket::over(stream, LazyBuffers::new(64, 64)), listener.accept().expect("connected").0)
    }

    fn within(left: Duration) -> NextTimeout {
        NextTimeout { after: left.into(), ..NextTimeout::default() }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn open_is_where_nothing_waits_to_be_read() {
        let (mut socket, mut server) = pair();
        assert!(socket.is_open());
        socket.buffers().output()[..4].copy_from_slice(b"ping");
        socket.transmit_output(4, within(LONG)).expect("sent");
        let mut sent = [0; 4];
        server.read_exact(&mut sent).expect("received");
        server.write_all(b"pong").expect("sent");
        assert!(socket.await_input(within(LONG)).expect("an answer"));
        assert_eq!((&sent, socket.buffers().input()), (b"ping", &b"pong"[..]));

        server.write_all(b"more").expect("sent");
        socket.stream.peek(&mut [0]).expect("it is there");
        assert!(socket.is_open(), "the first answer is given without a look");
        assert!(!socket.is_open(), "nobody asked for these bytes");

        let (mut socket, server) = pair();
        drop(server);
        socket.stream.peek(&mut [0]).expect("the end is there");
        assert!(!socket.is_open());
    }

    #[test]
    fn time_that_is_up_is_a_timeout_and_none_is_no_wait() {
        let (mut socket, _server) = pair();
        for left in [Duration::from_millis(5), Duration::from_millis(3), Duration::ZERO] {
            assert!(matches!(socket.await_input(within(left)), Err(Error::Timeout(Timeout::Global))), "{left:?}");
        }
        let nothing = socket.transmit_output(1, within(Duration::ZERO));
        assert!(matches!(nothing, Err(Error::Timeout(Timeout::Global))));
    }
}
