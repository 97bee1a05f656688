//! Copying with a hash of what went through.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::BackupError;
use crate::{closing::Closing, objects::ObjectError};

const BUFFER_BYTES: usize = 256 * 1024;

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`hex`] wrote; `None` for anything else.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|digit| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok()));
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Copies all of it, and gives its length and the SHA-256 in hexadecimal digits.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    copy_while(from, to, || true)
}

/// The same, unless the end begins before.
pub(super) fn copy_until(
    from: &mut impl Read,
    to: &mut impl Write,
    closing: &Closing,
) -> Result<(u64, String), BackupError> {
    let copied = copy_while(from, to, || !closing.is_closed());
    if closing.is_closed() { Err(BackupError::Ended) } else { Ok(copied.map_err(ObjectError::from)?) }
}

fn copy_while(from: &mut impl Read, to: &mut impl Write, goes_on: impl Fn() -> bool) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    while goes_on() {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..read).unwrap_or_default();
        hash.update(piece);
        to.write_all(piece)?;
        bytes += read as u64;
    }
    Ok((bytes, hex(&hash.finalize())))
}
