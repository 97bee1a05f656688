//! What an upload comes to while it is checked, held against its client's quota and the disk: its bytes on their way to the
//! stored file, and what is put aside of it.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Write},
};

use super::{UploadError, check_quotas};
use crate::{
    appliance::Appliance,
    room::{FileSoFar, Place},
    store::queue,
};

/// The first look at the disk comes when so many bytes say how long the lines are; the next ones after so many more.
const FIRST_LOOK_BYTES: u64 = 256 * 1024;
const LOOK_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// Asks for room: what this file needs is promised, or refused.
pub(super) fn promise(appliance: &Appliance, place: &mut Place<'_>, file: FileSoFar) -> Result<(), UploadError> {
    let owed = appliance.store.read(queue::owed)?;
    Ok(place.promise(file, owed)?)
}

/// How far an upload has come, and whether more of it may.
pub(super) struct Measure<'a, 'p> {
    appliance: &'a Appliance,
    client: i64,
    place: &'p mut Place<'a>,
    file: FileSoFar,
    next_look: u64,
    /// It is read on where nothing of it is stored any more: a bomb is to be told that it is too large, which it is for good.
    goes_on: bool,
    refused: Option<UploadError>,
}

impl<'a, 'p> Measure<'a, 'p> {
    pub(super) fn new(
        appliance: &'a Appliance,
        place: &'p mut Place<'a>,
        client: i64,
        file: FileSoFar,
        is_compressed: bool,
    ) -> Self {
        Self { appliance, client, place, file, next_look: FIRST_LOOK_BYTES, goes_on: is_compressed, refused: None }
    }

    /// Whether what comes next is to be stored; an error where it need not come at all.
    pub(super) fn has_room(&mut self) -> io::Result<bool> {
        if self.refused.is_none() && self.file.bytes + self.file.findings >= self.next_look {
            self.look()?;
        }
        Ok(self.refused.is_none())
    }

    fn look(&mut self) -> io::Result<()> {
        self.next_look = self.file.bytes + self.file.findings + LOOK_EVERY_BYTES;
        let quota = check_quotas(self.appliance, self.client, self.file.bytes, self.file.findings);
        match quota.and_then(|()| promise(self.appliance, self.place, self.file)) {
            Ok(()) => Ok(()),
            Err(error) => {
                let goes_on = self.goes_on && matches!(error, UploadError::NoRoom(_) | UploadError::Quota(_));
                self.refused = Some(error);
                if goes_on { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
            }
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        self.file.bytes += bytes.len() as u64;
        // A record can have line breaks in it: then it is counted as more than one, and nothing else goes wrong.
        self.file.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// So many bytes of findings were put aside.
    pub(super) fn found(&mut self, bytes: u64) {
        self.file.findings += bytes;
    }

    /// Why it ended.
    pub(super) fn into_refused(self) -> Option<UploadError> {
        self.refused
    }
}

/// Passes bytes on as long as there is room for them and for what becomes of them.
pub(super) struct Measured<'m, 'a, 'p, W> {
    inner: W,
    measure: &'m RefCell<Measure<'a, 'p>>,
}

impl<'m, 'a, 'p, W: Write> Measured<'m, 'a, 'p, W> {
    pub(super) fn new(inner: W, measure: &'m RefCell<Measure<'a, 'p>>) -> Self {
        Self { inner, measure }
    }
}

impl<W: Write> Write for Measured<'_, '_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.measure.borrow_mut().has_room()? {
            return Ok(bytes.len());
        }
        let written = self.inner.write(bytes)?;
        self.measure.borrow_mut().came(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
