//! What a connection's two sides know of it: heads that were handed to hyper, requests that came out, and how much memory
//! that takes of what all connections share.
//!
//! What people and programs send finds room always: a connection has [`FREE_HEAD`] and [`FREE_BODY`] for nothing. What is
//! larger is counted before it is kept, and where there is no room for it, it is refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::places::Place;
use crate::http::problem::{Problem, ProblemCode};

/// What every connection may have of a head: so many bytes, and so many lines.
const FREE_HEAD: usize = 4 * 1024;
const FREE_LINES: usize = 32;
/// What it may have of a small body.
const FREE_BODY: usize = 1024;
/// What a header takes besides its bytes: an entry of a map that grows by doubling, and a copy of its name.
const A_HEADER: usize = 128;
/// When somebody should come again for whom there was no room: half-sent requests end within ten seconds.
const RETRY_SECONDS: u64 = 10;

/// A connection's account.
pub struct Exchange {
    place: Place,
    heads: AtomicU64,
    requests: AtomicU64,
    under_way: AtomicU64,
    /// What the head takes that was handed over last, until it is a request.
    handed: AtomicUsize,
    /// What the heads take that were handed over, until their requests end.
    carried: AtomicUsize,
    /// What of it was counted. It does not become less, because hyper's buffer does not.
    counted: AtomicUsize,
}

/// A request under way, until the last byte of its answer is with hyper.
pub struct UnderWay {
    exchange: Arc<Exchange>,
    takes: usize,
}

/// What a handler tells of the connection while more has to come on it before it can go on.
#[derive(Clone)]
pub struct Line(Arc<Exchange>);

impl Exchange {
    /// A connection that has this place.
    pub fn new(place: Place) -> Arc<Self> {
        let (number, size) = (AtomicU64::default, AtomicUsize::default);
        Arc::new(Self {
            place,
            heads: number(),
            requests: number(),
            under_way: number(),
            handed: size(),
            carried: size(),
            counted: size(),
        })
    }

    /// Whether there is room for so much of a head.
    pub fn has_room(&self, bytes: usize, lines: usize) -> bool {
        self.may_hold(head_takes(bytes, lines))
    }

    /// A head of this size is handed over.
    pub fn hands(&self, bytes: usize, lines: usize) {
        let takes = head_takes(bytes, lines);
        self.heads.fetch_add(1, Ordering::SeqCst);
        self.handed.store(takes, Ordering::SeqCst);
        self.carried.fetch_add(takes, Ordering::SeqCst);
    }

    /// Something is handed over that hyper will refuse.
    pub fn hands_none(&self) {
        self.heads.fetch_add(1, Ordering::SeqCst);
    }

    /// A request came out.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.place.works();
        UnderWay { exchange: self.clone(), takes: self.handed.swap(0, Ordering::SeqCst) }
    }

    /// What its request's handler can tell.
    pub fn line(self: &Arc<Self>) -> Line {
        Line(self.clone())
    }

    /// Ends when somebody else needs the connection's place more.
    pub async fn given_up(&self) {
        self.place.given_up().await;
    }

    /// Notes that the caller has to take something before the connection goes on, or that it did.
    pub fn stalls(&self, is_stalled: bool) {
        match (is_stalled, self.is_busy()) {
            (true, _) => self.place.waits(Instant::now()),
            (false, true) => self.place.works(),
            (false, false) => self.place.rests(Instant::now()),
        };
    }

    /// Whether a request is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Whether hyper has a head that has not become a request.
    pub fn has_refused(&self) -> bool {
        !self.is_busy() && self.heads.load(Ordering::SeqCst) > self.requests.load(Ordering::SeqCst)
    }

    /// Whether there is room for so much besides what it carries.
    fn may_hold(&self, more: usize) -> bool {
        let all = self.carried.load(Ordering::SeqCst) + more;
        if all <= self.counted.load(Ordering::SeqCst) {
            return true;
        }
        let has_room = self.place.may_hold(all);
        if has_room {
            self.counted.fetch_max(all, Ordering::SeqCst);
        }
        has_room
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let exchange = &self.exchange;
        exchange.carried.fetch_sub(self.takes, Ordering::SeqCst);
        if exchange.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            exchange.place.rests(Instant::now());
        }
    }
}

impl Line {
    /// From now on the request waits for its caller, and makes way where somebody else needs its place.
    pub fn waits(&self) {
        self.0.place.waits(Instant::now());
    }

    /// It has what it waited for; `false` where it has made way meanwhile.
    pub fn goes_on(&self) -> bool {
        self.0.place.works()
    }

    /// Whether there is room for so much of a small body.
    pub fn has_room(&self, bytes: usize) -> bool {
        // It lies in hyper's buffer too, and either of them grows by doubling.
        self.0.may_hold(3 * bytes.saturating_sub(FREE_BODY))
    }
}

/// What a head takes beyond what every connection may have. A buffer that grows by doubling is up to twice as large as what
/// is in it.
fn head_takes(bytes: usize, lines: usize) -> usize {
    (2 * bytes + A_HEADER * lines).saturating_sub(2 * FREE_HEAD + A_HEADER * FREE_LINES)
}

/// What somebody is told for whom there is no room.
pub fn no_room() -> Problem {
    let detail = "The server holds as much of unfinished requests as it may. Come again in a while, or send less: 4 KiB of \
                  headers, and 1 KiB of a body, find room always.";
    Problem::new(ProblemCode::Busy, detail).retry_after(RETRY_SECONDS)
}
