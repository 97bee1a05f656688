//! A TCP proxy on loopback that a test can break, at once or at a certain moment, and heal.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything.
    Up,
    /// Nothing: connections end at once.
    Down,
    /// Everything until somebody sends a request that begins so; from then on nothing.
    UpUntil(&'static [u8]),
    /// So many bytes towards the server; from then on nothing.
    UpFor(usize),
    /// So many bytes towards the client; from then on nothing.
    DownloadsFor(usize),
}

struct Shared {
    line: Mutex<Line>,
    open: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A running proxy; ends when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Towards {
    Server,
    Client,
}

impl Proxy {
    /// In front of `target`, with nothing broken.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared =
            Arc::new(Shared { line: Mutex::new(Line::Up), open: Mutex::default(), stop: AtomicBool::new(false) });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                // A connection that cannot be passed on is one that ends.
                let _ = pass_on(client, target, &accepting);
            }
        });
        Self { address, shared }
    }

    /// Changes what passes. Going down ends the connections that are open.
    pub fn set(&self, line: Line) {
        self.shared.set(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.set(Line::Down);
        // Wakes the accepting thread, so that it sees the sign and closes the port.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn set(&self, line: Line) {
        let mut current = self.line.lock().expect("not poisoned");
        *current = line;
        if line == Line::Down {
            self.end_all();
        }
    }

    fn end_all(&self) {
        for stream in self.open.lock().expect("not poisoned").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many of these bytes pass. The line goes down where that is not all of them.
    fn passing(&self, bytes: &[u8], towards: Towards) -> usize {
        let mut line = self.line.lock().expect("not poisoned");
        let (passing, left) = match (*line, towards) {
            (Line::Down, _) => (0, Line::Down),
            (Line::UpUntil(begin), Towards::Server) if bytes.starts_with(begin) => (0, Line::Down),
            (Line::UpFor(budget), Towards::Server) => {
                let passing = budget.min(bytes.len());
                (passing, if passing < bytes.len() { Line::Down } else { Line::UpFor(budget - passing) })
            }
            (Line::DownloadsFor(budget), Towards::Client) => {
                let passing = budget.min(bytes.len());
                (passing, if passing < bytes.len() { Line::Down } else { Line::DownloadsFor(budget - passing) })
            }
            (line, _) => (bytes.len(), line),
        };
        *line = left;
        passing
    }
}

fn pass_on(client: TcpStream, target: SocketAddr, shared: &Arc<Shared>) -> std::io::Result<()> {
    {
        let line = shared.line.lock().expect("not poisoned");
        if *line == Line::Down {
            return Ok(());
        }
        shared.open.lock().expect("not poisoned").push(client.try_clone()?);
    }
    let server = TcpStream::connect(target)?;
    for (from, to, towards) in
        [(client.try_clone()?, server.try_clone()?, Towards::Server), (server, client, Towards::Client)]
    {
        let shared = shared.clone();
        thread::spawn(move || {
            // Whatever goes wrong here, for both sides it is the end of the connection.
            let _ = copy(&from, &to, towards, &shared);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, towards: Towards, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let passing = shared.passing(&buffer[..read], towards);
        to.write_all(&buffer[..passing])?;
        if passing < read {
            shared.end_all();
            return Ok(());
        }
    }
}
