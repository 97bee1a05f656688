//! Chunks of sealed rows, in order: parsed by one thread, sealed by rayon, taken by whoever writes.
//!
//! The parser hands each chunk of plain records to rayon and keeps the place of its result in a queue. A chunk is bounded in
//! rows and in bytes, and the queue's length bounds how many chunks exist at once: so does memory, whatever the file. Its
//! order is the file's, so the rows are appended to the table in the order of their keys, which is what SQLite does fastest.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        mpsc::{IntoIter, Receiver, SyncSender, sync_channel},
    },
};

use super::{Obstacle, earlier::Earlier};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    crypto::{Purpose, SEALED_OVERHEAD},
    intake::Rows,
    model::record::Record,
    store::{StoreError, extraction::NewRow, skipped},
    work::open_batch::OpenBatch,
};

/// Rows in one transaction: enough to make its cost disappear, few enough that a claim behind it waits some
/// milliseconds.
const ROWS_PER_CHUNK: usize = 10_000;
/// ... and bytes of their records, above which no other record is put to them: ten thousand rows of the usual width, some
/// dozens of very wide ones.
const BYTES_PER_CHUNK: usize = 1 << 20;
/// Chunks that are being sealed or wait for the writer, for each thread that seals; and of all threads, however many there
/// are. Each is there twice while it is sealed.
const CHUNKS_PER_THREAD: usize = 2;
const CHUNKS_AT_MOST: usize = 8;
/// Skipped lines that are read ahead.
const SKIPPED_AHEAD: u32 = 1_000;

/// The rows of one transaction.
pub(super) struct Chunk {
    /// The number of its first row.
    pub first_number: u32,
    /// Sealed, in order, without gaps in their numbers.
    pub rows: Vec<NewRow>,
}

type Sealed = Result<Chunk, Obstacle>;

/// The chunks of a file, as they are ready.
pub(super) struct SealedChunks(IntoIter<Receiver<Sealed>>);

impl SealedChunks {
    /// Starts reading behind the first `done` rows. Ends early when it is dropped.
    pub fn start(
        file: Box<dyn Read + Send>,
        skipped: SkippedLines,
        open: Arc<OpenBatch>,
        done: u32,
    ) -> io::Result<Self> {
        let (queue, ready) = sync_channel(CHUNKS_AT_MOST.min(CHUNKS_PER_THREAD * rayon::current_num_threads()));
        std::thread::Builder::new().name("extract-parse".into()).spawn(move || {
            if let Err(obstacle) = parse(file, skipped, &open, done, &queue) {
                let (place, chunk) = sync_channel(1);
                let _ = place.send(Err(obstacle));
                let _ = queue.send(chunk);
            }
        })?;
        Ok(Self(ready.into_iter()))
    }
}

impl Iterator for SealedChunks {
    type Item = Sealed;

    fn next(&mut self) -> Option<Sealed> {
        let chunk = self.0.next()?;
        // A sealing that panicked leaves its place empty.
        Some(chunk.recv().unwrap_or(Err(Obstacle::Sealing)))
    }
}

/// Plain records of one chunk: their bytes one behind the other, and where each ends.
#[derive(Default)]
struct Plain {
    first_number: u32,
    lines: Vec<u64>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Plain {
    fn starting_at(first_number: u32) -> Self {
        Self { first_number, ..Self::default() }
    }

    fn is_full(&self) -> bool {
        self.lines.len() == ROWS_PER_CHUNK || self.bytes.len() >= BYTES_PER_CHUNK
    }

    fn seal(self, open: &OpenBatch) -> Chunk {
        let mut begin = 0;
        let mut sealer = open.key.bulk();
        let mut rows = Vec::with_capacity(self.lines.len());
        for ((line, end), number) in self.lines.into_iter().zip(self.ends).zip(self.first_number..) {
            let mut data = Vec::with_capacity(end - begin + SEALED_OVERHEAD);
            sealer.seal_into(open.place(Purpose::Row, number), &self.bytes[begin..end], &mut data);
            rows.push(NewRow { line, data });
            begin = end;
        }
        Chunk { first_number: self.first_number, rows }
    }
}

fn parse(
    file: Box<dyn Read + Send>,
    mut skipped: SkippedLines,
    open: &Arc<OpenBatch>,
    done: u32,
    queue: &SyncSender<Receiver<Sealed>>,
) -> Result<(), Obstacle> {
    crash_point("extract.parsing");
    let mut records = Rows::open(file, &open.details.header)?;
    let mut earlier = Earlier::of(skipped.appliance.clone(), open.client);
    let mut number = 0;
    let mut plain = Plain::starting_at(done + 1);
    while let Some(record) = records.read()? {
        if skipped.contains(record.line())? {
            continue;
        }
        number += 1;
        if number <= done {
            continue;
        }
        let origin = match record.origin() {
            Some(row) => earlier.stated(row)?.to_string(),
            None => String::new(),
        };
        Record::encode(&mut plain.bytes, &origin, record.cells());
        plain.ends.push(plain.bytes.len());
        plain.lines.push(record.line());
        if plain.is_full() {
            let full = std::mem::replace(&mut plain, Plain::starting_at(number + 1));
            if !hand_over(full, open, queue) {
                return Ok(());
            }
        }
    }
    if !plain.lines.is_empty() {
        hand_over(plain, open, queue);
    }
    Ok(())
}

/// Puts the chunk's place into the queue, and its sealing to rayon; `false` when nobody takes chunks any more.
fn hand_over(plain: Plain, open: &Arc<OpenBatch>, queue: &SyncSender<Receiver<Sealed>>) -> bool {
    let (place, chunk) = sync_channel(1);
    let open = open.clone();
    rayon::spawn(move || {
        crash_point("extract.sealing");
        // Nobody takes it any more when the extraction was stopped.
        let _ = place.send(Ok(plain.seal(&open)));
    });
    queue.send(chunk).is_ok()
}

/// The lines that were skipped at upload, in order, read a piece at a time.
pub(super) struct SkippedLines {
    appliance: Arc<Appliance>,
    batch: i64,
    ahead: std::vec::IntoIter<u64>,
    next: Option<u64>,
}

impl SkippedLines {
    /// Those of a batch, from its first line on.
    pub fn of(appliance: Arc<Appliance>, batch: i64) -> Result<Self, StoreError> {
        let mut lines = Self { appliance, batch, ahead: Vec::new().into_iter(), next: None };
        lines.advance(0)?;
        Ok(lines)
    }

    /// Whether this line was skipped. To be asked for each line in the file's order.
    fn contains(&mut self, line: u64) -> Result<bool, StoreError> {
        while self.next.is_some_and(|next| next < line) {
            self.advance(line - 1)?;
        }
        Ok(self.next == Some(line))
    }

    fn advance(&mut self, behind: u64) -> Result<(), StoreError> {
        self.next = self.ahead.next();
        if self.next.is_none() {
            let lines = self
                .appliance
                .store
                .read(|connection| skipped::lines(connection, self.batch, behind, SKIPPED_AHEAD))?;
            self.ahead = lines.into_iter();
            self.next = self.ahead.next();
        }
        Ok(())
    }
}
