//! From the bytes of an upload to the bytes of the file: inflated, measured, hashed, and passed on to storage on the
//! way.
//!
//! Knows nothing of CSV. What goes wrong travels inside `io::Error`, as readers have it, and [`Broken::of`] takes it
//! out again.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Why the bytes of an upload do not become those of a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the upload broke off")]
    Read(#[source] io::Error),
    #[error("the upload is not gzip, or broken")]
    Gzip,
    #[error("the file is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: u64 },
    #[error("the file could not be stored")]
    Tee(#[source] io::Error),
}

impl Broken {
    /// What a reader's error means; one that does not come from here is a reader's own.
    pub(super) fn of(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Read)
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::other(broken)
    }
}

/// Reads the inflated bytes of `input`, each of which has gone to the tee before.
pub(super) struct Decoder<R, W> {
    source: Source<R>,
    tee: Option<W>,
    sha256: Sha256,
    bytes: u64,
    max_bytes: u64,
}

enum Source<R> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
}

/// Marks the errors of the upload itself, so that they are not taken for broken gzip.
struct Input<R>(R);

impl<R: Read, W: Write> Decoder<R, W> {
    pub(super) fn new(input: R, gzip: bool, max_bytes: u64, tee: W) -> Self {
        let input = Input(input);
        let source = if gzip { Source::Gzip(Box::new(MultiGzDecoder::new(input))) } else { Source::Plain(input) };
        Self { source, tee: Some(tee), sha256: Sha256::new(), bytes: 0, max_bytes }
    }

    /// From here on nothing is stored.
    pub(super) fn drop_tee(&mut self) {
        self.tee = None;
    }

    /// The size of the inflated file and its SHA-256, once it is read to its end.
    pub(super) fn finish(self) -> (u64, [u8; 32]) {
        (self.bytes, self.sha256.finalize().into())
    }
}

impl<R: Read, W: Write> Read for Decoder<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.source {
            Source::Plain(input) => input.read(buffer)?,
            Source::Gzip(gzip) => gzip.read(buffer).map_err(gzip_error)?,
        };
        let bytes = &buffer[..read];
        self.bytes += read as u64;
        if self.bytes > self.max_bytes {
            return Err(Broken::TooLarge { max_bytes: self.max_bytes }.into());
        }
        if let Some(tee) = &mut self.tee {
            self.sha256.update(bytes);
            tee.write_all(bytes).map_err(Broken::Tee)?;
        }
        Ok(read)
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => Broken::Read(error).into(),
        })
    }
}

fn gzip_error(error: io::Error) -> io::Error {
    let is_of_the_input = error.get_ref().is_some_and(|inner| inner.is::<Broken>());
    if is_of_the_input || error.kind() == io::ErrorKind::Interrupted { error } else { Broken::Gzip.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const TEXT: &[u8] = b"email\nada@example.com\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(input: &[u8], gzip: bool, max_bytes: u64) -> Result<Vec<u8>, Broken> {
        let mut stored = Vec::new();
        let mut text = Vec::new();
        let mut decoder = Decoder::new(input, gzip, max_bytes, &mut stored);
        decoder.read_to_end(&mut text).map_err(Broken::of)?;
        let (bytes, sha256) = decoder.finish();
        assert_eq!(bytes, text.len() as u64);
        assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&text)));
        assert_eq!(stored, text);
        Ok(text)
    }

    #[test]
    fn plain_and_gzip_give_the_same_file() {
        assert_eq!(decode(TEXT, false, 100).unwrap(), TEXT);
        assert_eq!(decode(&gzip(TEXT), true, 100).unwrap(), TEXT);
        let two_members = [gzip(&TEXT[..7]), gzip(&TEXT[7..])].concat();
        assert_eq!(decode(&two_members, true, 100).unwrap(), TEXT);
    }

    #[test]
    fn broken_gzip_is_told_from_a_broken_upload() {
        let whole = gzip(TEXT);
        let mut flipped = whole.clone();
        flipped[whole.len() - 6] ^= 1;
        for bytes in [&b""[..], TEXT, &whole[..whole.len() - 3], &flipped, &[&whole[..], b"more"].concat()] {
            assert!(matches!(decode(bytes, true, 100), Err(Broken::Gzip)), "{bytes:?}");
        }
        let broken_off = Cursor::new(&whole[..20]).chain(Failing);
        let mut decoder = Decoder::new(broken_off, true, 100, io::sink());
        let error = io::copy(&mut decoder, &mut io::sink()).unwrap_err();
        assert!(matches!(Broken::of(error), Broken::Read(_)));
    }

    #[test]
    fn the_limit_is_on_inflated_bytes() {
        let zeros = vec![0; 1_000_000];
        assert!(matches!(decode(&gzip(&zeros), true, 999_999), Err(Broken::TooLarge { max_bytes: 999_999 })));
        assert!(decode(&gzip(&zeros), true, 1_000_000).is_ok());
    }

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}
