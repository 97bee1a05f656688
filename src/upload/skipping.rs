//! What `on_invalid_row = "skip"` leaves out: put aside while the file is checked, and written to the database when its upload
//! is as good as accepted. Of an upload that is refused before that nothing comes there at all.

use std::{
    cell::RefCell,
    io::{self, Write},
    path::PathBuf,
};

use super::{
    UploadError,
    measured::Measure,
    spool::{Spool, Spooled},
};
use crate::{
    appliance::Appliance,
    crash_point::crash_point,
    intake::{Finding, Refused},
    store::{
        skipped::{self, Skipped},
        uploads::Upload,
    },
};

/// So many faults of one file are all listed. Behind them only the first of each record is, which says that it is left out:
/// so a file has no more of them than this and its rows.
const LISTED_IN_FULL: u64 = 1_000_000;
/// Faults that one transaction writes, and bytes of them.
const FAULTS_AT_ONCE: usize = 500;
const BYTES_AT_ONCE: u64 = 64 * 1024;

/// Takes faults as they are found.
pub(super) struct Skipping<'m, 'a, 'p> {
    spool_dir: PathBuf,
    measure: &'m RefCell<Measure<'a, 'p>>,
    spool: Option<Spool>,
    faults: u64,
    bytes: u64,
    last_line: Option<u64>,
}

/// The faults of a whole file, still aside.
#[derive(Default)]
pub(super) struct LeftOut {
    spooled: Option<Spooled>,
    faults: u64,
    /// What they take in the database.
    pub(super) bytes: u64,
}

impl<'m, 'a, 'p> Skipping<'m, 'a, 'p> {
    /// Nothing is written before the first fault.
    pub(super) fn new(spool_dir: PathBuf, measure: &'m RefCell<Measure<'a, 'p>>) -> Self {
        Self { spool_dir, measure, spool: None, faults: 0, bytes: 0, last_line: None }
    }

    /// One more fault of a record that is left out.
    pub(super) fn skip(&mut self, finding: &Finding) -> io::Result<()> {
        let is_first = self.last_line.replace(finding.line) != Some(finding.line);
        if !is_listed(self.faults, is_first) || !self.measure.borrow_mut().has_room()? {
            return Ok(());
        }
        let fault = Skipped {
            line: finding.line,
            column: finding.column.clone(),
            column_number: finding.column_number,
            code: finding.code.as_str().to_owned(),
            message: finding.message.clone(),
        };
        self.put_aside(&fault)?;
        self.faults += 1;
        self.bytes += fault.bytes();
        self.measure.borrow_mut().found(fault.bytes());
        Ok(())
    }

    fn put_aside(&mut self, fault: &Skipped) -> io::Result<()> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            None => self.spool.insert(Spool::begin(&self.spool_dir)?),
        };
        let encoded = rmp_serde::to_vec(fault).map_err(io::Error::other)?;
        spool.write_all(&encoded)
    }

    /// All that were found.
    pub(super) fn finish(self) -> io::Result<LeftOut> {
        Ok(LeftOut { spooled: self.spool.map(Spool::read).transpose()?, faults: self.faults, bytes: self.bytes })
    }
}

/// Whether a fault is listed behind so many others.
fn is_listed(faults: u64, is_first_of_record: bool) -> bool {
    is_first_of_record || faults < LISTED_IN_FULL
}

impl LeftOut {
    /// Whether nothing was left out.
    pub(super) fn is_empty(&self) -> bool {
        self.faults == 0
    }

    /// Writes them for this upload, in pieces, so that no other write waits long.
    pub(super) fn write(self, appliance: &Appliance, upload: Upload) -> Result<(), UploadError> {
        let Some(mut spooled) = self.spooled else { return Ok(()) };
        let mut written = 0;
        while written < self.faults {
            let piece = next_piece(&mut spooled, self.faults - written).map_err(Refused::Spool)?;
            let (batch, first) = (upload.batch, written);
            written += piece.len() as u64;
            appliance.store.write(move |tx| skipped::add(tx, batch, first, &piece))?;
            crash_point("upload.listing");
        }
        Ok(())
    }
}

/// At least one, where any are left.
fn next_piece(spooled: &mut Spooled, left: u64) -> io::Result<Vec<Skipped>> {
    let (mut piece, mut bytes) = (Vec::new(), 0);
    while piece.len() < FAULTS_AT_ONCE && bytes < BYTES_AT_ONCE && (piece.len() as u64) < left {
        let fault: Skipped = rmp_serde::from_read(&mut *spooled).map_err(io::Error::other)?;
        bytes += fault.bytes();
        piece.push(fault);
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: u64, message: &str) -> Skipped {
        let (column, code) = (Some("email".to_owned()), "invalid_value".to_owned());
        Skipped { line, column, column_number: Some(1), code, message: message.to_owned() }
    }

    /// The lines of each piece of so many faults with this message.
    fn pieces(faults: u64, message: &str) -> Vec<Vec<u64>> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::begin(folder.path()).expect("a spool");
        for line in 0..faults {
            spool.write_all(&rmp_serde::to_vec(&fault(line, message)).expect("encoded")).expect("put aside");
        }
        let (mut spooled, mut left, mut pieces) = (spool.read().expect("read"), faults, Vec::new());
        while left > 0 {
            let piece = next_piece(&mut spooled, left).expect("a piece");
            assert!(piece.iter().all(|it| it.message == message && it.column_number == Some(1)));
            left -= piece.len() as u64;
            pieces.push(piece.iter().map(|it| it.line).collect());
        }
        pieces
    }

    #[test]
    fn findings_come_back_in_their_order_in_pieces_bounded_in_number_and_bytes() {
        let short = pieces(1_200, "no");
        assert_eq!(short.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 200]);
        assert_eq!(short.concat(), (0..1_200).collect::<Vec<_>>());
        let long = pieces(200, &"x".repeat(1_000));
        assert!(long.iter().all(|piece| piece.len() <= 1 + BYTES_AT_ONCE as usize / 1_000), "{long:?}");
        assert_eq!(long.concat(), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn behind_so_many_faults_each_record_is_listed_with_its_first_one() {
        assert!(is_listed(LISTED_IN_FULL - 1, false) && is_listed(LISTED_IN_FULL, true));
        assert!(!is_listed(LISTED_IN_FULL, false));
    }
}
