//! What lies aside while an upload is checked. Its file has no name and is sealed under a key that is nowhere else, so nothing
//! of it is left, however the process ends, and nothing of it could be read.

use std::{
    fs::File,
    io::{self, BufReader, Seek, Write},
    path::Path,
};

use crate::{
    crypto::{DataKey, OpeningReader, Place, Purpose, SealingWriter},
    model::BatchId,
};

/// Findings that are being put aside.
pub(super) struct Spool {
    key: DataKey,
    place: Place,
    writer: SealingWriter<File>,
}

/// What was put aside, to be read once.
pub(super) type Spooled = OpeningReader<BufReader<File>>;

impl Spool {
    pub(super) fn begin(spool_dir: &Path) -> io::Result<Self> {
        let (key, place) = (DataKey::generate(), Place::batch(Purpose::Findings, BatchId::random()));
        let writer = SealingWriter::new(tempfile::tempfile_in(spool_dir)?, &key, place)?;
        Ok(Self { key, place, writer })
    }

    pub(super) fn read(self) -> io::Result<Spooled> {
        let mut file = self.writer.finish()?;
        file.rewind()?;
        OpeningReader::new(BufReader::new(file), &self.key, self.place)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
