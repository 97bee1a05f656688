//! How many connections lead to all dependencies together: each is an open file, and what is opened besides has to find some.
//! Whoever finds no place for another one is told what the system would say: no more files may be open.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::io::Errno;

/// The limit of open files is the process's, however many servers it has.
static OURS: Sockets = Sockets::up_to(usize::MAX);

/// Lets this process have so many connections to dependencies.
pub fn allow_connections(most: usize) {
    OURS.most.store(most, Ordering::Release);
}

struct Sockets {
    most: AtomicUsize,
    open: AtomicUsize,
}

/// The place of one connection, taken until this is dropped.
pub(super) struct Socket(&'static Sockets);

impl Sockets {
    const fn up_to(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), open: AtomicUsize::new(0) }
    }

    fn take(&'static self) -> io::Result<Socket> {
        let most = self.most.load(Ordering::Acquire);
        let one_more = |open: usize| (open < most).then_some(open + 1);
        match self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(Socket(self)),
            Err(_) => Err(Errno::MFILE.into()),
        }
    }
}

impl Socket {
    /// A place for one more connection of this process, if there is one.
    pub(super) fn take() -> io::Result<Self> {
        OURS.take()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::lack::Lack;

    #[test]
    fn beyond_the_last_place_files_are_lacking_until_one_is_given_back() {
        static TWO: Sockets = Sockets::up_to(2);
        let first = TWO.take().expect("a place");
        let _second = TWO.take().expect("another");
        let error = TWO.take().err().expect("no third");
        assert_eq!(Lack::of(&error, true), Some(Lack::Files));
        drop(first);
        assert!(TWO.take().is_ok());
    }
}
