//! Where backups lie side by side: a folder of folders, or what is below `backups/` in the bucket.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{BackupError, MANIFEST, PlaceName, ScheduledName, at, manifest::Manifest, place};
use crate::{
    config::{self, BackupTo, Config},
    objects::Objects,
};

/// A shelf.
pub enum Shelf {
    /// Each backup is a folder in it.
    Folder(PathBuf),
    /// Each backup is a name in the bucket.
    Bucket(Box<Objects>),
}

/// A backup on a shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// What its name says, of a scheduled one.
    pub scheduled: Option<ScheduledName>,
    /// Whether it has a manifest, and with it everything. What has none broke off, or is under way.
    pub is_whole: bool,
}

impl Shelf {
    /// Where scheduled backups go: `backup.to`, or the bucket.
    pub fn open(config: &Config, runtime: &tokio::runtime::Handle) -> Result<Self, BackupError> {
        match (&config.backup.to, &config.objects) {
            (Some(BackupTo::Folder(folder)), _) => Ok(Self::Folder(folder.clone())),
            (Some(BackupTo::Bucket), config::Objects::Minio(settings)) => {
                Ok(Self::Bucket(Box::new(Objects::minio(settings, runtime.clone())?)))
            }
            _ => Err(BackupError::NoShelf),
        }
    }

    /// The place with this name.
    pub fn place(&self, name: &str) -> PlaceName {
        match self {
            Self::Folder(folder) => PlaceName::Folder(folder.join(name)),
            Self::Bucket(_) => PlaceName::Bucket(name.to_owned()),
        }
    }

    /// What is there, sorted by name; what looks like no backup is passed over.
    pub fn entries(&self) -> Result<Vec<Entry>, BackupError> {
        let found = match self {
            Self::Folder(folder) => in_folder(folder).map_err(at(folder))?,
            Self::Bucket(objects) => in_bucket(&objects.names(place::PREFIX)?),
        };
        let entry = |(name, is_whole): (String, bool)| Entry { scheduled: name.parse().ok(), name, is_whole };
        let mut entries: Vec<Entry> = found.into_iter().map(entry).collect();
        entries.retain(|entry| entry.is_whole || entry.scheduled.is_some());
        Ok(entries)
    }

    /// The last whole scheduled backup. Where several appliances have theirs here, somebody has to say whose.
    pub fn latest(&self) -> Result<PlaceName, BackupError> {
        let mut latest: BTreeMap<String, ScheduledName> = BTreeMap::new();
        for entry in self.entries()? {
            if let (true, Some(name)) = (entry.is_whole, entry.scheduled) {
                // They come sorted by time.
                latest.insert(name.mark.clone(), name);
            }
        }
        let mut names = latest.into_values().map(|name| name.to_string());
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(self.place(&name)),
            (None, _) => Err(BackupError::NoneThere(self.to_string())),
            (Some(one), Some(other)) => {
                let all: Vec<String> = [one, other].into_iter().chain(names).collect();
                Err(BackupError::OfSeveral(self.to_string(), all.join(", ")))
            }
        }
    }

    /// The manifest of a backup here.
    pub fn manifest(&self, name: &str) -> Result<Manifest, BackupError> {
        match self {
            Self::Folder(folder) => Manifest::read_folder(&folder.join(name)),
            Self::Bucket(objects) => {
                let shown = || self.place(name).to_string();
                Manifest::read_from(objects.open(&format!("{}{name}/{MANIFEST}", place::PREFIX)), shown)
            }
        }
    }

    /// Removes a backup. The manifest goes first: what is half removed is no backup.
    pub(super) fn remove(&self, name: &str) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => {
                let (whole, manifest) = (folder.join(name), folder.join(name).join(MANIFEST));
                place::remove_if_there(fs::remove_file(&manifest), &manifest)?;
                place::remove_if_there(fs::remove_dir_all(&whole), &whole)
            }
            Self::Bucket(objects) => {
                let prefix = format!("{}{name}/", place::PREFIX);
                objects.delete(&format!("{prefix}{MANIFEST}"))?;
                for object in objects.names(&prefix)? {
                    objects.delete(&object)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket(objects) => write!(f, "{objects}"),
        }
    }
}

fn in_folder(folder: &Path) -> io::Result<BTreeMap<String, bool>> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        // It is made with the first backup.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
            found.insert(name, entry.path().join(MANIFEST).exists());
        }
    }
    Ok(found)
}

fn in_bucket(objects: &[String]) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for object in objects {
        let Some((name, part)) = object.strip_prefix(place::PREFIX).and_then(|rest| rest.split_once('/')) else {
            continue;
        };
        *found.entry(name.to_owned()).or_insert(false) |= part == MANIFEST;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with backups of these names; those that end in `!` broke off.
    fn shelf(names: &[&str]) -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names {
            let path = folder.path().join(name.trim_end_matches('!'));
            fs::create_dir(&path).expect("a folder");
            if !name.ends_with('!') {
                fs::write(path.join(MANIFEST), "{}").expect("a manifest");
            }
        }
        let shelf = Shelf::Folder(folder.path().to_owned());
        (folder, shelf)
    }

    #[test]
    fn the_latest_is_the_last_whole_one_of_the_only_appliance() {
        let names =
            ["20261124T150000Z-aaaaaaaa", "20261124T160000Z-aaaaaaaa", "20261124T170000Z-aaaaaaaa!", "zebra", "other!"];
        let (folder, shelf) = shelf(&names);
        assert_eq!(shelf.latest().expect("one"), shelf.place("20261124T160000Z-aaaaaaaa"));
        let names: Vec<_> = shelf.entries().expect("read").into_iter().map(|it| (it.name, it.is_whole)).collect();
        assert_eq!(names.len(), 4, "what is no backup is passed over: {names:?}");
        fs::create_dir(folder.path().join("20261124T153000Z-bbbbbbbb")).expect("a folder");
        assert!(shelf.latest().is_ok(), "another's that broke off is none");
        fs::write(folder.path().join("20261124T153000Z-bbbbbbbb").join(MANIFEST), "{}").expect("a manifest");
        let said = shelf.latest().expect_err("two appliances").to_string();
        assert!(said.contains("20261124T160000Z-aaaaaaaa, 20261124T153000Z-bbbbbbbb"), "{said}");
    }

    #[test]
    fn an_empty_shelf_has_no_latest() {
        let nowhere = Shelf::Folder(PathBuf::from("/nowhere/at/all"));
        assert!(matches!(nowhere.latest(), Err(BackupError::NoneThere(_))));
        let (_folder, only_broken) = shelf(&["20261124T170000Z-aaaaaaaa!"]);
        assert!(matches!(only_broken.latest(), Err(BackupError::NoneThere(_))));
    }

    #[test]
    fn names_of_a_bucket_are_put_together_by_backup() {
        let objects = ["backups/a/dripfeed.db", "backups/a/manifest.json", "backups/b/dripfeed.db", "backups/stray"];
        let found = in_bucket(&objects.map(str::to_owned));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a".to_owned(), true), ("b".to_owned(), false)]);
    }
}
