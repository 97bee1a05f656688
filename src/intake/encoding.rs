//! What a file is that is not UTF-8, in the words of the person who saved it, with what to do about it.

use super::finding::{Fault, FindingCode};

/// So much of the beginning is looked at.
const LOOKED_AT: usize = 64;
const SAVE_AS: &str = "save it from the spreadsheet as \"CSV UTF-8 (comma delimited)\" and upload that file";

/// Recognises by their first bytes files that cannot be read as UTF-8 at all.
pub(super) fn recognise(start: &[u8]) -> Result<(), Fault> {
    let found = match start {
        [0xff, 0xfe, ..] => "UTF-16 (little endian)",
        [0xfe, 0xff, ..] => "UTF-16 (big endian)",
        [b'P', b'K', 3, 4, ..] => "an Excel workbook or another ZIP archive, not CSV",
        [0x1f, 0x8b, ..] => {
            let message = "the file is gzip; send it with the header Content-Encoding: gzip, or unpack it first";
            return Err(Fault::new(FindingCode::NotUtf8, message));
        }
        // Latin letters in UTF-16 have a NUL for every other byte.
        _ if nul_every_other_byte(start, 1) => "UTF-16 (little endian, without a byte order mark)",
        _ if nul_every_other_byte(start, 0) => "UTF-16 (big endian, without a byte order mark)",
        _ => return Ok(()),
    };
    Err(Fault::new(FindingCode::NotUtf8, format!("the file is {found}; {SAVE_AS}")))
}

fn nul_every_other_byte(start: &[u8], remainder: usize) -> bool {
    let mut looked_at = start.iter().take(LOOKED_AT).enumerate();
    start.len() >= 4 && looked_at.all(|(index, &byte)| (byte == 0) == (index % 2 == remainder))
}

/// Bytes that are not UTF-8 in the midst of text: nearly always an 8-bit encoding of old.
pub(super) fn not_utf8() -> Fault {
    let message = format!("the file is not UTF-8, but probably Windows-1252 or Latin-1 (ISO 8859-1); {SAVE_AS}");
    Fault::new(FindingCode::NotUtf8, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_it_recognises() {
        let utf16 =
            |text: &str, to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<_>>();
        for (bytes, name) in [
            (utf16("\u{feff}email", u16::to_le_bytes), "UTF-16 (little endian)"),
            (utf16("\u{feff}email", u16::to_be_bytes), "UTF-16 (big endian)"),
            (utf16("email", u16::to_le_bytes), "UTF-16 (little endian, without"),
            (utf16("email", u16::to_be_bytes), "UTF-16 (big endian, without"),
            (b"PK\x03\x04rest".to_vec(), "Excel workbook"),
            (b"\x1f\x8b\x08".to_vec(), "Content-Encoding"),
        ] {
            let fault = recognise(&bytes).unwrap_err();
            assert_eq!(fault.code, FindingCode::NotUtf8);
            assert!(fault.message.contains(name), "{name}: {}", fault.message);
        }
        for text in ["", "a", "email\n", "PKW,Name\n", "é,ü\n", "\0\0\0\0"] {
            assert_eq!(recognise(text.as_bytes()), Ok(()), "{text:?}");
        }
    }
}
