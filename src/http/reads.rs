//! Answers of many bytes: how many bytes of them may be there at once, from when they are made until the caller has taken
//! them.
//!
//! Each answer has a limit of its own, and that does not help where many are asked for at once and nobody takes them. So
//! whoever makes a long one takes a [`Place`] first, which waits where others have taken all the bytes there are, and the
//! answer's bytes hold on to it until the connection lets go of them. One caller can take no more than a part of all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    answer::making,
    problem::{Problem, ProblemCode},
};

/// KiB of all pages together, and of those of one caller.
const PAGES_KIB: (usize, usize) = (16 * 1024, 8 * 1024);
/// The same of pieces of downloads. They have their own, so that downloads that nobody takes keep nobody from a page.
const PIECES_KIB: (usize, usize) = (16 * 1024, 8 * 1024);
/// Answers that are made at once, each on a thread of its own: as many as there are connections to read the database by. A long
/// one counts for several, for each so much of it: while it is made it takes twice what it comes to.
///
/// An allocator keeps what a thread gave back until that thread asks for memory again. Made on any of the threads that may
/// block, as many of them would each have kept some megabytes: lists and downloads from all sides took 110 MiB then, and take
/// 60 with threads as few as this (medians of three pairs).
const MADE_AT_ONCE: usize = 4;
const MADE_KIB: u32 = 2 * 1024;
/// The longest answer: all that one caller can have of them.
pub const LARGEST_PAGE: usize = PAGES_KIB.1 * 1024;
/// The longest piece of a download, likewise.
pub const LARGEST_PIECE: usize = PIECES_KIB.1 * 1024;
/// How long somebody waits for a place, and when they should come again who found none.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const BUSY_RETRY_SECONDS: u64 = 5;

/// The places of one server.
#[derive(Clone)]
pub struct Reads {
    pages: Room,
    pieces: Room,
    making: Arc<Semaphore>,
    makers: Arc<ThreadPool>,
}

/// Room for one kind of answers, in KiB.
#[derive(Clone)]
struct Room {
    all: Arc<Semaphore>,
    each: usize,
    /// By caller: a client's key in the database, or `None` for operators.
    callers: Arc<Mutex<HashMap<Option<i64>, Weak<Semaphore>>>>,
}

/// Room for an answer. Dropped, it is free for others.
pub struct Place {
    of_caller: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
    making: Option<OwnedSemaphorePermit>,
    makers: Arc<ThreadPool>,
}

/// An answer that is not sent yet.
struct Held {
    bytes: Vec<u8>,
    _place: Place,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Reads {
    /// All of them free. An error is that of a thread that could not be started.
    pub fn start() -> Result<Self, ThreadPoolBuildError> {
        let threads =
            ThreadPoolBuilder::new().num_threads(MADE_AT_ONCE).thread_name(|number| format!("answer-{number}"));
        let (making, makers) = (Arc::new(Semaphore::new(MADE_AT_ONCE)), Arc::new(threads.build()?));
        Ok(Self { pages: Room::of(PAGES_KIB), pieces: Room::of(PIECES_KIB), making, makers })
    }

    /// Room for a page of about so many bytes. Who finds none in time is told to come again.
    pub async fn page(&self, whose: Option<i64>, bytes: usize) -> Result<Place, Problem> {
        in_time(self.place(&self.pages, whose, bytes)).await
    }

    /// Room for the first piece of a download, in the same way.
    pub async fn first_piece(&self, whose: Option<i64>, bytes: usize) -> Result<Place, Problem> {
        in_time(self.place(&self.pieces, whose, bytes)).await
    }

    /// Room for the next piece of a download that has begun: it waits for as long as that takes. Those who have the room
    /// either take their answers or are cut off.
    pub async fn next_piece(&self, whose: Option<i64>, bytes: usize) -> Result<Place, Problem> {
        self.place(&self.pieces, whose, bytes).await
    }

    async fn place(&self, room: &Room, whose: Option<i64>, bytes: usize) -> Result<Place, Problem> {
        let kib = kib(bytes);
        let closed = |_| Problem::internal();
        Ok(Place {
            of_caller: room.of_caller(whose).acquire_many_owned(kib).await.map_err(closed)?,
            of_all: room.all.clone().acquire_many_owned(kib).await.map_err(closed)?,
            making: Some(self.making.clone().acquire_many_owned(kib.div_ceil(MADE_KIB)).await.map_err(closed)?),
            makers: self.makers.clone(),
        })
    }
}

async fn in_time(place: impl Future<Output = Result<Place, Problem>>) -> Result<Place, Problem> {
    timeout(LONGEST_WAIT, place).await.map_err(|_| {
        let detail = "As many long answers as may be under way at once are under way.";
        Problem::new(ProblemCode::Busy, detail).retry_after(BUSY_RETRY_SECONDS)
    })?
}

impl Room {
    fn of((all, each): (usize, usize)) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, callers: Arc::default() }
    }

    fn of_caller(&self, whose: Option<i64>) -> Arc<Semaphore> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = callers.get(&whose).and_then(Weak::upgrade) {
            return known;
        }
        callers.retain(|_, semaphore| semaphore.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.each));
        callers.insert(whose, Arc::downgrade(&new));
        new
    }
}

impl Place {
    /// Makes the answer, or what it is made of.
    pub async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        making(&self.makers, work).await
    }

    /// The answer, which holds as much of the place as it needs until nobody has it any more.
    pub fn hold(mut self, mut bytes: Vec<u8>) -> Bytes {
        self.making = None;
        bytes.shrink_to_fit();
        let needed = kib(bytes.len()) as usize;
        for permit in [&mut self.of_caller, &mut self.of_all] {
            drop(permit.split(permit.num_permits().saturating_sub(needed)));
        }
        Bytes::from_owner(Held { bytes, _place: self })
    }
}

fn kib(bytes: usize) -> u32 {
    bytes.div_ceil(1024).clamp(1, PAGES_KIB.1) as u32
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work)
    }

    /// Room for a page of two megabytes, if there is any now.
    fn room(reads: &Reads, whose: Option<i64>) -> Option<Place> {
        reads.page(whose, 2 * MIB).now_or_never().map(|place| place.expect("it is open"))
    }

    #[test]
    fn answers_that_nobody_takes_keep_others_waiting_for_as_long_as_they_are_there() {
        run(async {
            let reads = Reads::start().expect("threads");
            let place = |page: i64| room(&reads, Some(page / 4)).expect("room");
            let mut untaken: Vec<_> = (0..8).map(|page| place(page).hold(vec![0; 2 * MIB])).collect();
            assert!(room(&reads, Some(9)).is_none(), "no room for anybody");
            let mut pieces = Vec::new();
            for _ in 0..4 {
                pieces.push(reads.first_piece(Some(1), 2 * MIB).now_or_never().expect("room").expect("it is open"));
            }
            assert!(reads.next_piece(Some(1), 1).now_or_never().is_none());
            drop(pieces);
            // It is the last copy of its bytes that counts.
            let copy = untaken.pop();
            let copies = [copy.clone(), copy];
            assert!(room(&reads, Some(9)).is_none());
            drop(copies);
            assert!(room(&reads, Some(9)).is_some());
        });
    }

    #[test]
    fn one_caller_leaves_room_for_others_and_a_short_answer_gives_back_what_it_did_not_need() {
        run(async {
            let reads = Reads::start().expect("threads");
            let page = |_| room(&reads, Some(1)).map(|it| it.hold(vec![0; 2 * MIB]));
            let long: Vec<_> = (0..4).filter_map(page).collect();
            assert!(long.len() == 4 && room(&reads, Some(1)).is_none(), "it has had its part");
            let short = (0..30).filter_map(|_| room(&reads, None)).map(|it| it.hold(vec![0; 1000]));
            assert_eq!(short.collect::<Vec<_>>().len(), 30);
            drop(long);
            assert!(room(&reads, Some(1)).is_some());
        });
    }

    #[test]
    fn no_more_are_made_at_once_than_there_are_ways_to_read() {
        run(async {
            let reads = Reads::start().expect("threads");
            let place = |caller| reads.page(Some(caller), 1).now_or_never();
            let mut made: Vec<_> = (0..4).filter_map(place).collect();
            assert!(made.len() == 4 && place(9).is_none());
            made.pop();
            assert!(place(9).is_some());
            assert!(room(&reads, Some(1)).is_some(), "one of two");
            let long = reads.page(Some(7), LARGEST_PAGE).now_or_never();
            assert!(long.is_none(), "it is made alone");
            made.clear();
            let long = reads.page(Some(7), LARGEST_PAGE).now_or_never();
            assert!(long.is_some() && place(9).is_none());
        });
    }
}
