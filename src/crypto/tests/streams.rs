//! Sealed streams: chunks taken apart and put together in every way, and bytes harmed anywhere.

use std::{
    io::{self, Read, Write},
    sync::LazyLock,
};

use proptest::{collection::vec, prelude::*};

use super::{super::*, harm};
use crate::model::BatchId;

/// Format and salt, in front of the chunks.
const HEADER_BYTES: usize = 36;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + 16;
/// The chunks of the streams here; the last one is short.
const CHUNKS: usize = 4;
const LAST_BYTES: usize = 100;

/// Sealing takes longer than all that is done to what was sealed.
static STREAM: LazyLock<Stream> = LazyLock::new(Stream::new);
static OTHER: LazyLock<Stream> = LazyLock::new(Stream::new);

struct Stream {
    key: DataKey,
    place: Place,
    plaintext: Vec<u8>,
    sealed: Vec<u8>,
}

impl Stream {
    fn new() -> Self {
        let (key, place) = (DataKey::generate(), Place::batch(Purpose::File, BatchId::random()));
        let plaintext: Vec<u8> = (0..(CHUNKS - 1) * CHUNK_BYTES + LAST_BYTES).map(|at| (at % 251) as u8).collect();
        let mut writer = SealingWriter::new(Vec::new(), &key, place).expect("memory");
        writer.write_all(&plaintext).expect("memory");
        let sealed = writer.finish().expect("memory");
        Self { key, place, plaintext, sealed }
    }

    /// What can be read of these bytes, and whether they ended as a stream ends.
    fn read(&self, sealed: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let mut read = Vec::new();
        let reader = OpeningReader::new(sealed, &self.key, self.place);
        let ended = reader.and_then(|mut reader| reader.read_to_end(&mut read)).map(drop);
        (read, ended)
    }

    /// Only the whole stream ends well; of another one nothing is read but what was written, in its order.
    fn assert_opens_only_whole(&self, sealed: &[u8]) {
        let (read, ended) = self.read(sealed);
        assert!(self.plaintext.starts_with(&read), "something else was read");
        match ended {
            Ok(()) => assert!(sealed == self.sealed && read.len() == self.plaintext.len(), "it opens, and is another"),
            Err(error) => assert!(is_damaged(&error) && sealed != self.sealed, "{error}"),
        }
    }
}

#[test]
fn the_whole_stream_opens() {
    STREAM.assert_opens_only_whole(&STREAM.sealed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn chunks_in_any_other_order_or_number_do_not_open(order in vec(0..CHUNKS, 0..6)) {
        let (header, chunks) = STREAM.sealed.split_at(HEADER_BYTES);
        let chunks: Vec<_> = chunks.chunks(SEALED_CHUNK_BYTES).collect();
        prop_assert_eq!(chunks.len(), CHUNKS);
        let put_together: Vec<_> = order.into_iter().map(|chunk| chunks[chunk]).collect();
        STREAM.assert_opens_only_whole(&[header, &put_together.concat()].concat());
    }

    #[test]
    fn a_stream_that_was_harmed_anywhere_does_not_open(harm in harm()) {
        STREAM.assert_opens_only_whole(&harm.done_to(&STREAM.sealed));
    }

    #[test]
    fn a_stream_with_a_piece_of_another_does_not_open(chunk in 0..CHUNKS) {
        let from = HEADER_BYTES + chunk * SEALED_CHUNK_BYTES;
        let to = STREAM.sealed.len().min(from + SEALED_CHUNK_BYTES);
        let mut mixed = STREAM.sealed.clone();
        mixed[from..to].copy_from_slice(&OTHER.sealed[from..to]);
        STREAM.assert_opens_only_whole(&mixed);
    }

    #[test]
    fn bytes_that_are_no_stream_are_damaged(bytes in vec(any::<u8>(), 0..200), with_format: bool) {
        let format: &[u8] = if with_format { b"dfs1" } else { b"" };
        STREAM.assert_opens_only_whole(&[format, &bytes].concat());
    }
}
