//! Objects as files below a folder, for the machine that has no bucket.
//!
//! A file is written beside the objects, under a name that no object can have, and is moved to its own name when it
//! is whole and on the disk. So a crash, or a power cut, leaves the old object, the new one, or none: never a part.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{ObjectError, name::ObjectName};

/// Where files are until they are whole. Object names do not begin with a dot.
const UNFINISHED: &str = ".unfinished";

/// A folder of objects. Private to its user: folders 0700, files 0600.
#[derive(Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Result<Self, ObjectError> {
        let folder = Self(path);
        make_folder(&folder.unfinished()).map_err(|error| folder.error(error))?;
        Ok(folder)
    }

    /// Tries whether files can be made here.
    pub(super) fn check(&self) -> Result<(), ObjectError> {
        self.temporary().map(drop)
    }

    pub(super) fn create(&self, name: &ObjectName) -> Result<LocalWriter, ObjectError> {
        Ok(LocalWriter { file: self.temporary()?, target: self.path(name), folder: self.clone() })
    }

    pub(super) fn open(&self, name: &ObjectName) -> Result<File, ObjectError> {
        File::open(self.path(name)).map_err(|error| self.error(error))
    }

    pub(super) fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            // A purge that a power cut undoes would be no purge.
            Ok(()) => self.sync_folders(&path).map_err(|error| self.error(error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let mut names = Vec::new();
        self.walk(&self.0, &mut names).map_err(|error| self.error(error))?;
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        Ok(names)
    }

    fn walk(&self, folder: &Path, names: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(&self.0).ok().and_then(Path::to_str).map(str::to_owned);
            if path == self.unfinished() {
                continue;
            }
            if path.is_dir() {
                self.walk(&path, names)?;
            } else {
                names.extend(name);
            }
        }
        Ok(())
    }

    pub(super) fn sweep(&self) -> Result<u64, ObjectError> {
        let sweep = || -> io::Result<u64> {
            let mut swept = 0;
            for entry in fs::read_dir(self.unfinished())? {
                fs::remove_file(entry?.path())?;
                swept += 1;
            }
            Ok(swept)
        };
        sweep().map_err(|error| self.error(error))
    }

    fn temporary(&self) -> Result<NamedTempFile, ObjectError> {
        NamedTempFile::new_in(self.unfinished()).map_err(|error| self.error(error))
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.0.join(name.as_str())
    }

    fn unfinished(&self) -> PathBuf {
        self.0.join(UNFINISHED)
    }

    /// Makes the entries on the way to `path` durable: a file that is on the disk can still be missing from its folder.
    fn sync_folders(&self, path: &Path) -> io::Result<()> {
        let mut inside = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.0));
        inside.try_for_each(|folder| File::open(folder)?.sync_all())
    }

    fn error(&self, error: io::Error) -> ObjectError {
        ObjectError::from_file_system(self, error)
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the folder {}", self.0.display())
    }
}

/// A file that is not an object yet; removed when it is dropped.
pub(super) struct LocalWriter {
    file: NamedTempFile,
    target: PathBuf,
    folder: Folder,
}

impl LocalWriter {
    pub(super) fn finish(self) -> Result<u64, ObjectError> {
        let Self { file, target, folder } = self;
        let finish = || -> io::Result<u64> {
            file.as_file().sync_all()?;
            if let Some(parent) = target.parent() {
                make_folder(parent)?;
            }
            let stored = file.persist(&target)?.metadata()?.len();
            folder.sync_folders(&target)?;
            Ok(stored)
        };
        finish().map_err(|error| folder.error(error))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| self.folder.error(error).into())
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
