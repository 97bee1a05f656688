//! Where a backup is: a folder, or a name in the bucket.

use std::{
    fmt, fs,
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{BackupError, DATABASE, MANIFEST, OBJECTS, at, hashing, manifest::Part};
use crate::{
    closing::Closing,
    config::{self, Config},
    objects::{ObjectError, ObjectWriter, Objects},
};

/// What stands before the name of a backup in the bucket.
const BUCKET: &str = "bucket:";
/// Where backups are in the bucket.
pub(super) const PREFIX: &str = "backups/";
/// How often, and how far apart, it is tried to remove a folder that is not empty again.
const REMOVAL_TRIES: u32 = 100;
const REMOVE_AGAIN: Duration = Duration::from_millis(20);
/// The folder that a store of files keeps its unfinished ones in: as long as it is there, the backup is not whole.
const UNFINISHED: &str = ".unfinished";

/// A place, as it is written on the command line: a folder, or `bucket:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceName {
    /// A folder.
    Folder(PathBuf),
    /// A name in the configured bucket.
    Bucket(String),
}

/// As it is written.
impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket(name) => write!(f, "{BUCKET}{name}"),
        }
    }
}

impl FromStr for PlaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_prefix(BUCKET) else { return Ok(Self::Folder(PathBuf::from(text))) };
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.bytes().all(known) {
            return Err("a backup in the bucket is written `bucket:NAME`, like bucket:2026-08-06; a name is 1 to 64 \
                        letters, digits, `-`, `_` and `.`"
                .to_owned());
        }
        Ok(Self::Bucket(name.to_owned()))
    }
}

/// An open place.
pub struct Place {
    objects: Objects,
    prefix: String,
    folder: Option<PathBuf>,
    shown: String,
}

impl Place {
    /// Opens a place where a backup should be.
    pub fn open_existing(
        name: &PlaceName,
        config: &Config,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, BackupError> {
        match name {
            // Not even an empty folder is made where somebody mistyped a name.
            PlaceName::Folder(folder) if !folder.is_dir() => Err(BackupError::NotWhole(folder.display().to_string())),
            _ => Self::open_at(name, config, runtime),
        }
    }

    /// Opens a place for a new backup. What an interrupted one left there is cleared away; a whole one, or anything
    /// else, is refused.
    pub fn open_new(name: &PlaceName, config: &Config, runtime: &tokio::runtime::Handle) -> Result<Self, BackupError> {
        if let PlaceName::Folder(folder) = name {
            clear_interrupted(folder)?;
        }
        let place = Self::open_at(name, config, runtime)?;
        place.objects.check()?;
        match place.open(MANIFEST) {
            Ok(_) => Err(BackupError::Taken(place.shown)),
            Err(ObjectError::NotFound { .. }) => Ok(place),
            Err(error) => Err(error.into()),
        }
    }

    fn open_at(name: &PlaceName, config: &Config, runtime: &tokio::runtime::Handle) -> Result<Self, BackupError> {
        match name {
            PlaceName::Folder(folder) => Ok(Self {
                objects: Objects::local(folder.clone())?,
                prefix: String::new(),
                folder: Some(folder.clone()),
                shown: folder.display().to_string(),
            }),
            PlaceName::Bucket(name) => {
                let config::Objects::Minio(settings) = &config.objects else { return Err(BackupError::NoBucket) };
                let objects = Objects::minio(settings, runtime.clone())?;
                let shown = format!("{objects} as `{BUCKET}{name}`");
                Ok(Self { objects, prefix: format!("{PREFIX}{name}/"), folder: None, shown })
            }
        }
    }

    /// Where it lies, if it is a folder.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Begins a file of the backup.
    pub(super) fn create(&self, name: &str) -> Result<ObjectWriter, ObjectError> {
        self.objects.create(&format!("{}{name}", self.prefix))
    }

    /// Reads a file of the backup.
    pub(super) fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, ObjectError> {
        self.objects.open(&format!("{}{name}", self.prefix))
    }

    /// Removes a file of the backup.
    pub(super) fn delete(&self, name: &str) -> Result<(), ObjectError> {
        self.objects.delete(&format!("{}{name}", self.prefix))
    }

    /// Reads a file of the backup through and holds it against what was written.
    pub(super) fn read_back(&self, part: &Part, closing: &Closing) -> Result<(), BackupError> {
        let mut reader = self.open(&part.name)?;
        let read = hashing::copy_until(&mut reader, &mut io::sink(), closing)?;
        if read == (part.bytes, part.sha256.clone()) {
            return Ok(());
        }
        Err(BackupError::NotAsWritten(part.name.clone(), self.shown.clone()))
    }

    /// Makes a file of another backup a file of this one, too: the same on the disk, as long as one of them is there.
    /// Whether the file system could do that.
    pub(super) fn share(&self, other: &Path, name: &str) -> bool {
        let Some(folder) = &self.folder else { return false };
        let (from, to) = (other.join(name), folder.join(name));
        let made = to.parent().map(|parent| fs::DirBuilder::new().recursive(true).mode(0o700).create(parent));
        made.is_some_and(|made| made.is_ok()) && fs::hard_link(from, to).is_ok()
    }

    /// Makes what was shared durable: a link that is not in its folder after a power cut would be a file that lacks.
    pub(super) fn sync_files(&self) -> Result<(), BackupError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let files = folder.join(OBJECTS);
        let synced = if files.exists() { fs::File::open(&files).and_then(|files| files.sync_all()) } else { Ok(()) };
        synced.map_err(at(files))
    }

    /// Where a file of the backup can be made that SQLite writes: on the way into a folder, and `elsewhere` for a bucket.
    pub(super) fn staging(&self, elsewhere: &Path) -> PathBuf {
        self.folder.as_ref().map_or_else(|| elsewhere.to_owned(), |folder| folder.join(UNFINISHED))
    }

    /// Makes a whole file a part of the backup, and reads it for that.
    pub(super) fn take_in(&self, file: &Path, name: &str, closing: &Closing) -> Result<Part, BackupError> {
        let mut reading = fs::File::open(file).map_err(at(file))?;
        let (bytes, sha256) = match &self.folder {
            Some(folder) => {
                let hashed = hashing::copy_until(&mut reading, &mut io::sink(), closing)?;
                let target = folder.join(name);
                fs::rename(file, &target).map_err(at(&target))?;
                fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
                hashed
            }
            None => {
                let mut writer = self.create(name)?;
                let hashed = hashing::copy_until(&mut reading, &mut writer, closing)?;
                writer.finish()?;
                fs::remove_file(file).map_err(at(file))?;
                hashed
            }
        };
        Ok(Part { name: name.to_owned(), bytes, sha256 })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn clear_interrupted(folder: &Path) -> Result<(), BackupError> {
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                names.push(entry.map_err(at(folder))?.file_name());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BackupError::File(folder.to_owned(), error)),
    }
    if names.iter().any(|name| name == MANIFEST) {
        return Err(BackupError::Taken(folder.display().to_string()));
    }
    let ours = names.iter().all(|name| name == UNFINISHED || name == DATABASE || name == OBJECTS);
    let is_interrupted = names.iter().any(|name| name == UNFINISHED);
    let is_usable = names.is_empty() || (ours && is_interrupted);
    if !is_usable {
        return Err(BackupError::NotEmpty(folder.display().to_string()));
    }
    // The mark that it is ours goes last.
    let [objects, database, mark] = [OBJECTS, DATABASE, UNFINISHED].map(|name| folder.join(name));
    remove_if_there(fs::remove_dir_all(&objects), &objects)?;
    remove_if_there(fs::remove_file(&database), &database)?;
    remove_if_there(fs::remove_dir_all(&mark), &mark)?;
    Ok(())
}

/// Removes a folder in which this process had a database. The threads of a pool may still be opening and closing it, and make a
/// file there that was not to be seen yet when the rest was removed.
pub(super) fn remove_folder(folder: &Path) -> Result<(), BackupError> {
    let mut removed = fs::remove_dir_all(folder);
    for _ in 1..REMOVAL_TRIES {
        if !removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty) {
            break;
        }
        std::thread::sleep(REMOVE_AGAIN);
        removed = fs::remove_dir_all(folder);
    }
    remove_if_there(removed, folder)
}

/// That there was nothing to remove is fine.
pub(super) fn remove_if_there(removed: io::Result<()>, path: &Path) -> Result<(), BackupError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::File(path.to_owned(), error)),
        _ => Ok(()),
    }
}
