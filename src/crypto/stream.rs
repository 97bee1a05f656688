//! Sealed streams: files of any size, in chunks, in the memory of one chunk.
//!
//! ```text
//! format (4 bytes "dfs1") · salt (32) · chunk · chunk · … · last chunk
//! chunk: ciphertext of up to 64 KiB · tag (16)
//! ```
//!
//! This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its
//! Nonce-Reuse Misuse-Resistance", CRYPTO 2015) over AES-256-GCM. Salt and place make the stream's own key; a chunk's
//! nonce is its number and whether it is the last one. So a chunk that is missing, moved, doubled, or from another
//! stream does not open, and a stream that was cut at a border, or lengthened, has no last chunk where it ends.
//!
//! A reader sees the chunks in front of the damage before it hears of it: what is read counts only when the end was
//! reached.

use std::io::{self, Read, Write};

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use zeroize::Zeroizing;

use super::{data_key::DataKey, place::Place, random::random};

/// The plaintext of every chunk but the last.
pub const CHUNK_BYTES: usize = 64 * 1024;

const FORMAT: [u8; 4] = *b"dfs1";
const SALT_BYTES: usize = 32;
const HEADER_BYTES: usize = FORMAT.len() + SALT_BYTES;
const TAG_BYTES: usize = 16;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// A sealed stream is not what was written for this place. Travels inside an [`io::Error`]; see [`is_damaged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed stream is damaged: it was cut, lengthened or changed, or belongs to another place or key")]
pub struct DamagedStream;

impl From<DamagedStream> for io::Error {
    fn from(damaged: DamagedStream) -> Self {
        Self::new(io::ErrorKind::InvalidData, damaged)
    }
}

/// Whether a read failed because the stream is damaged, which no second try mends, rather than because reading did.
pub fn is_damaged(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<DamagedStream>())
}

/// The cipher of one stream, and the number of its next chunk.
struct Chunks {
    cipher: Aes256Gcm,
    next: u64,
}

impl Chunks {
    fn new(key: &DataKey, place: Place, salt: &[u8]) -> Self {
        Self { cipher: Aes256Gcm::new(key.stream_key(place, salt).as_bytes().into()), next: 0 }
    }

    /// Seals the chunk in place and puts its tag behind it.
    fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) {
        let nonce = self.take_nonce(last);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce.into(), &[], chunk.as_mut_slice().into())
            .expect("a chunk is far below the 64 GiB that AES-GCM can seal at once");
        chunk.extend_from_slice(&tag);
    }

    /// Opens the chunk in place and gives its plaintext's length.
    fn open(&mut self, sealed: &mut [u8], last: bool) -> Result<usize, DamagedStream> {
        let nonce = self.take_nonce(last);
        let (chunk, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(DamagedStream)?;
        let length = chunk.len();
        let tag = &*tag;
        self.cipher.decrypt_inout_detached(&nonce.into(), &[], chunk.into(), tag.into()).map_err(|_| DamagedStream)?;
        Ok(length)
    }

    /// Every nonce is taken once, whether or not the chunk then gets where it should.
    fn take_nonce(&mut self, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = last.into();
        self.next += 1;
        nonce
    }
}

/// Seals what is written to it. Only [`SealingWriter::finish`] makes the stream whole: one that is dropped before
/// does not open.
pub struct SealingWriter<W: Write> {
    inner: W,
    chunks: Chunks,
    /// The plaintext of the chunk at hand; never longer than [`CHUNK_BYTES`].
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> SealingWriter<W> {
    /// Begins a stream for this place.
    pub fn new(mut inner: W, key: &DataKey, place: Place) -> io::Result<Self> {
        let salt: [u8; SALT_BYTES] = random();
        inner.write_all(&FORMAT)?;
        inner.write_all(&salt)?;
        let chunk = Zeroizing::new(Vec::with_capacity(SEALED_CHUNK_BYTES));
        Ok(Self { inner, chunks: Chunks::new(key, place, &salt), chunk })
    }

    /// Writes the last chunk, and gives back what the stream was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_chunk(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn write_chunk(&mut self, last: bool) -> io::Result<()> {
        self.chunks.seal(&mut self.chunk, last);
        let written = self.inner.write_all(&self.chunk);
        // Also when it could not be written: the stream then lacks a chunk and can never open, but nothing that was
        // sealed is sealed again.
        self.chunk.clear();
        written
    }
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for what follows it: only then is it certain not to be the last.
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.write_chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Flushes what is sealed already; the chunk at hand stays until it is full or the stream is finished.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads what a [`SealingWriter`] wrote for the same place.
///
/// Errors for which [`is_damaged`] holds are about the stream; all others are the inner reader's own.
pub struct OpeningReader<R: Read> {
    inner: R,
    chunks: Chunks,
    /// The chunk at hand: opened up to `opened`, given out up to `given`.
    buffer: Zeroizing<Vec<u8>>,
    given: usize,
    opened: usize,
    /// The first byte behind the chunk at hand; none when that chunk is the last.
    following: Option<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Damaged,
}

impl<R: Read> OpeningReader<R> {
    /// Reads the beginning of the stream. A stream that is shorter than that, or of another format, is damaged.
    pub fn new(mut inner: R, key: &DataKey, place: Place) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        inner.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header)?;
        let salt = header.strip_prefix(&FORMAT).filter(|salt| salt.len() == SALT_BYTES).ok_or(DamagedStream)?;
        let chunks = Chunks::new(key, place, salt);
        // One byte more than a chunk: it tells whether another one follows.
        let buffer = Zeroizing::new(Vec::with_capacity(SEALED_CHUNK_BYTES + 1));
        Ok(Self { inner, chunks, buffer, given: 0, opened: 0, following: None, state: State::Open })
    }

    /// Fetches and opens the next chunk. What was fetched stays when the inner reader fails, so that reading can go on.
    fn next_chunk(&mut self) -> io::Result<()> {
        if self.given == self.opened && self.opened > 0 {
            self.buffer.clear();
            self.buffer.extend(self.following.take());
            (self.given, self.opened) = (0, 0);
        }
        let wanted = (SEALED_CHUNK_BYTES + 1 - self.buffer.len()) as u64;
        self.inner.by_ref().take(wanted).read_to_end(&mut self.buffer)?;
        self.following = if self.buffer.len() > SEALED_CHUNK_BYTES { self.buffer.pop() } else { None };
        let last = self.following.is_none();
        match self.chunks.open(&mut self.buffer, last) {
            Ok(length) => {
                self.opened = length;
                self.state = if last { State::Ended } else { State::Open };
                Ok(())
            }
            Err(damaged) => {
                self.state = State::Damaged;
                Err(damaged.into())
            }
        }
    }
}

impl<R: Read> Read for OpeningReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.given == self.opened {
            match self.state {
                State::Open => self.next_chunk()?,
                State::Ended => return Ok(0),
                State::Damaged => return Err(DamagedStream.into()),
            }
        }
        let ready = &self.buffer[self.given..self.opened];
        let length = ready.len().min(out.len());
        out[..length].copy_from_slice(&ready[..length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Purpose;
    use super::*;
    use crate::model::BatchId;

    struct Fixture {
        key: DataKey,
        place: Place,
    }

    impl Fixture {
        fn new() -> Self {
            Self { key: DataKey::generate(), place: Place::batch(Purpose::File, BatchId::random()) }
        }

        fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
            let mut writer = SealingWriter::new(Vec::new(), &self.key, self.place).expect("a Vec takes all");
            // In pieces that fit no border.
            for piece in plaintext.chunks(10_007) {
                writer.write_all(piece).expect("a Vec takes all");
            }
            writer.finish().expect("a Vec takes all")
        }

        fn open(&self, sealed: &[u8]) -> io::Result<Vec<u8>> {
            read_all(OpeningReader::new(sealed, &self.key, self.place)?)
        }

        fn assert_damaged(&self, sealed: &[u8], what: &str) {
            let error = self.open(sealed).expect_err(what);
            assert!(is_damaged(&error), "{what}: {error}");
        }
    }

    fn read_all(mut reader: impl Read) -> io::Result<Vec<u8>> {
        let mut plaintext = Vec::new();
        reader.read_to_end(&mut plaintext)?;
        Ok(plaintext)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn comes_back_whatever_its_length() {
        let fixture = Fixture::new();
        let chunk = CHUNK_BYTES;
        for length in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 17] {
            let plaintext = bytes(length);
            let sealed = fixture.seal(&plaintext);
            let chunks = length.div_ceil(chunk).max(1);
            assert_eq!(sealed.len(), HEADER_BYTES + length + chunks * TAG_BYTES);
            assert!(fixture.open(&sealed).expect("whole") == plaintext, "{length} bytes");
        }
    }

    #[test]
    fn a_cut_is_noticed_wherever_it_is() {
        let fixture = Fixture::new();
        let sealed = fixture.seal(&bytes(2 * CHUNK_BYTES + 100));
        let borders = [0, 1, HEADER_BYTES, HEADER_BYTES + SEALED_CHUNK_BYTES, HEADER_BYTES + 2 * SEALED_CHUNK_BYTES];
        for end in borders.into_iter().flat_map(|border| [border, border + 1, border + TAG_BYTES]) {
            fixture.assert_damaged(&sealed[..end], &format!("cut at {end}"));
        }
        fixture.assert_damaged(&sealed[..sealed.len() - 1], "cut by one byte");
    }

    #[test]
    fn what_was_changed_moved_doubled_or_appended_is_noticed() {
        let fixture = Fixture::new();
        let sealed = fixture.seal(&bytes(3 * CHUNK_BYTES));
        let (header, rest) = sealed.split_at(HEADER_BYTES);
        let chunks: Vec<_> = rest.chunks(SEALED_CHUNK_BYTES).collect();
        let (first, second, last) = (chunks[0], chunks[1], chunks[2]);
        for (what, stream) in [
            ("reordered", [header, second, first, last].concat()),
            ("doubled", [header, first, first, second, last].concat()),
            ("left out", [header, first, last].concat()),
            ("appended", [header, first, second, last, b"x"].concat()),
            ("appended twice", [header, first, second, last, last].concat()),
            ("another stream's beginning", [&fixture.seal(b"x")[..HEADER_BYTES], first, second, last].concat()),
        ] {
            fixture.assert_damaged(&stream, what);
        }
        for at in [0, FORMAT.len(), HEADER_BYTES, HEADER_BYTES + SEALED_CHUNK_BYTES + 5, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            fixture.assert_damaged(&changed, &format!("changed at {at}"));
        }
    }

    #[test]
    fn opens_for_its_own_batch_purpose_and_key_only() {
        let fixture = Fixture::new();
        let sealed = fixture.seal(b"a,b\n1,2\n");
        let Place { batch, .. } = fixture.place;
        for place in [Place::batch(Purpose::File, BatchId::random()), Place::batch(Purpose::Context, batch)] {
            let reader = OpeningReader::new(sealed.as_slice(), &fixture.key, place).expect("a whole beginning");
            assert!(is_damaged(&read_all(reader).expect_err("not its place")));
        }
        Fixture { key: DataKey::generate(), ..fixture }.assert_damaged(&sealed, "another key");
    }

    /// Fails once after each `every` bytes, as a network does.
    struct Flaky<'a> {
        rest: &'a [u8],
        every: usize,
        left: usize,
    }

    impl Read for Flaky<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 {
                self.left = self.every;
                return Err(io::ErrorKind::TimedOut.into());
            }
            let length = self.left.min(out.len());
            let read = self.rest.read(&mut out[..length])?;
            self.left -= read;
            Ok(read)
        }
    }

    #[test]
    fn a_failing_reader_is_no_damage_and_loses_nothing() {
        let fixture = Fixture::new();
        let plaintext = bytes(2 * CHUNK_BYTES + 5);
        let sealed = fixture.seal(&plaintext);
        let flaky = Flaky { rest: &sealed, every: 50_000, left: 50_000 };
        let mut reader = OpeningReader::new(flaky, &fixture.key, fixture.place).expect("no failure yet");
        let (mut read, mut failures) = (Vec::new(), 0);
        while let Err(error) = reader.read_to_end(&mut read) {
            assert!(!is_damaged(&error), "{error}");
            failures += 1;
        }
        assert!(read == plaintext);
        assert!(failures >= 2);
    }

    #[test]
    fn damage_stays_damage() {
        let fixture = Fixture::new();
        let sealed = fixture.seal(&bytes(CHUNK_BYTES + 1));
        let mut reader =
            OpeningReader::new(&sealed[..sealed.len() - 1], &fixture.key, fixture.place).expect("a whole beginning");
        let mut read = Vec::new();
        for _ in 0..2 {
            assert!(is_damaged(&reader.read_to_end(&mut read).expect_err("cut")));
            assert_eq!(read.len(), CHUNK_BYTES);
        }
    }
}
