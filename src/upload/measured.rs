//! The way of an upload's bytes to its stored file, with an eye on the disk.

use std::io::{self, ErrorKind, Write};

use super::UploadError;
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

/// Passes bytes on as long as there is room for them and for what becomes of them.
pub(super) struct Measured<'a, 'p, W> {
    inner: W,
    appliance: &'a Appliance,
    place: &'p mut Place<'a>,
    file: FileSoFar,
    next_look: u64,
    /// Why it ended.
    refused: &'p mut Option<UploadError>,
}

impl<'a, 'p, W: Write> Measured<'a, 'p, W> {
    pub(super) fn new(
        inner: W,
        appliance: &'a Appliance,
        place: &'p mut Place<'a>,
        announced: u64,
        refused: &'p mut Option<UploadError>,
    ) -> Self {
        let file = FileSoFar { announced, ..FileSoFar::default() };
        Self { inner, appliance, place, file, next_look: FIRST_LOOK_BYTES, refused }
    }

    fn look(&mut self) -> io::Result<()> {
        self.next_look = self.file.bytes + LOOK_EVERY_BYTES;
        promise(self.appliance, self.place, self.file).map_err(|error| {
            *self.refused = Some(error);
            ErrorKind::StorageFull.into()
        })
    }
}

impl<W: Write> Write for Measured<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.bytes >= self.next_look {
            self.look()?;
        }
        let written = self.inner.write(bytes)?;
        self.file.bytes += written as u64;
        // A record can have line breaks in it: then it is counted as more than one, and nothing else goes wrong.
        self.file.lines += bytes[..written].iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
