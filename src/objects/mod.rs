//! Objects: whole streams under a name, like the stored file of a batch. In a folder, or in a MinIO bucket.
//!
//! Knows names and bytes; does not know what is in them, nor that they are sealed. An object is there whole or not at
//! all: it becomes visible when its writer is finished, and a writer that is dropped before leaves nothing behind.
//!
//! Everything here blocks, the bucket too: call it on threads that may wait, never on those of an async runtime.

mod error;
mod local;
mod minio;
mod name;

use std::{
    fmt,
    io::{self, Read, Write},
    path::PathBuf,
};

use tokio::runtime::Handle;

pub use error::ObjectError;
pub use minio::{Keeping, MinioSettings};

use local::{Folder, LocalWriter};
use minio::{Bucket, BucketWriter};
use name::ObjectName;

/// A place for objects.
pub struct Objects(Store);

enum Store {
    Local(Folder),
    Minio(Bucket),
}

impl Objects {
    /// Objects as files of a folder, which is made if it is not there.
    pub fn local(folder: PathBuf) -> Result<Self, ObjectError> {
        Ok(Self(Store::Local(Folder::new(folder)?)))
    }

    /// Objects of a bucket. Nothing is connected yet; the requests run on `runtime`, whose timers must be enabled.
    pub fn minio(settings: &MinioSettings, runtime: Handle) -> Result<Self, ObjectError> {
        Ok(Self(Store::Minio(Bucket::new(settings, runtime)?)))
    }

    /// Whether objects can be kept here: the folder takes files; the bucket answers, and is made if it is not there.
    pub fn check(&self) -> Result<(), ObjectError> {
        match &self.0 {
            Store::Local(folder) => folder.check(),
            Store::Minio(bucket) => bucket.check(),
        }
    }

    /// Whether the folder or the bucket is there; makes none.
    pub fn must_be_there(&self) -> Result<(), ObjectError> {
        match &self.0 {
            Store::Local(folder) => folder.check(),
            Store::Minio(bucket) => bucket.must_be_there(),
        }
    }

    /// Begins an object. One that has the name already stays until the new one is finished, and then is replaced.
    pub fn create(&self, name: &str) -> Result<ObjectWriter, ObjectError> {
        let name = ObjectName::parse(name)?;
        Ok(ObjectWriter(match &self.0 {
            Store::Local(folder) => Writer::Local(folder.create(&name)?),
            Store::Minio(bucket) => Writer::Minio(bucket.create(&name)?),
        }))
    }

    /// Reads an object from its beginning. An error of the reader that came from the store can be turned back with
    /// [`ObjectError::from`].
    pub fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, ObjectError> {
        let name = ObjectName::parse(name)?;
        match &self.0 {
            Store::Local(folder) => Ok(Box::new(folder.open(&name)?)),
            Store::Minio(bucket) => Ok(Box::new(bucket.open(&name)?)),
        }
    }

    /// What is kept here of objects that are deleted.
    pub fn keeping(&self) -> Keeping {
        match &self.0 {
            Store::Local(_) => Keeping::default(),
            Store::Minio(bucket) => bucket.keeping(),
        }
    }

    /// Removes an object for good, with every version of it. That there is none is fine.
    pub fn delete(&self, name: &str) -> Result<(), ObjectError> {
        let name = ObjectName::parse(name)?;
        match &self.0 {
            Store::Local(folder) => folder.delete(&name),
            Store::Minio(bucket) => bucket.delete(&name),
        }
    }

    /// The names of objects that begin so, sorted.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        match &self.0 {
            Store::Local(folder) => folder.names(prefix),
            Store::Minio(bucket) => bucket.names(prefix),
        }
    }

    /// Removes what writers left behind when their process died, and says how many there were. Only for the start,
    /// when nobody else writes. An upload to a bucket that a broken line cut off cannot be taken back over
    /// that line: the bucket clears its parts away itself (MinIO after a day: its setting `stale_uploads_expiry`).
    pub fn sweep(&self) -> Result<u64, ObjectError> {
        match &self.0 {
            Store::Local(folder) => folder.sweep(),
            Store::Minio(_) => Ok(0),
        }
    }
}

/// Where the objects are, for a person.
impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Store::Local(folder) => folder.fmt(f),
            Store::Minio(bucket) => bucket.fmt(f),
        }
    }
}

/// An object that is being written. Dropped before [`ObjectWriter::finish`], it never was.
pub struct ObjectWriter(Writer);

enum Writer {
    Local(LocalWriter),
    Minio(BucketWriter),
}

impl ObjectWriter {
    /// Makes the object durable, and visible under its name. Gives the number of bytes stored.
    pub fn finish(self) -> Result<u64, ObjectError> {
        match self.0 {
            Writer::Local(writer) => writer.finish(),
            Writer::Minio(writer) => writer.finish(),
        }
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Writer::Local(writer) => writer.write(bytes),
            Writer::Minio(writer) => writer.write(bytes),
        }
    }

    /// Does nothing: bytes are safe when the object is finished, and not before.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
