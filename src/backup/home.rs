//! A database that came to its data folder in another way than by `restore`: as a replica that Litestream put there, or
//! as a file that somebody copied.
//!
//! The folder has a file with a number, and the database has the same one. A server that finds them different, or no
//! file, has a database from elsewhere before it: what it shows as unfinished may have been called since it was copied.
//! So dispatch is paused, with the reason, exactly as after `restore`. A copy of the whole folder, as by a snapshot of
//! its volume, has the file with it, and cannot be told from a folder that was moved.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::{BackupError, at};
use crate::{
    appliance::Appliance,
    dispatch::rescue,
    store::{
        audit::{self, Deed},
        grants, home, restored,
        stuck::{self, Lost, ProcessKind},
    },
};

/// The file in the data folder.
const FILE: &str = "home";
/// Who pauses dispatch.
const BY: &str = "server";

/// Whether this database lives in this data folder; one from elsewhere is made to, with dispatch paused. To be called at
/// the start, by the only server, before anything is claimed.
pub fn move_in(appliance: &Appliance) -> Result<(), BackupError> {
    let data_dir = &appliance.config.storage.data_dir;
    let known = appliance.store.read(home::number)?;
    if known.is_some() && known == read(data_dir)? {
        return Ok(());
    }
    // The file comes first: a death in between leaves two numbers that differ, and the next start is here again.
    let number = rand::random_range(1..=i64::MAX);
    write(data_dir, number)?;
    if known.is_none() {
        return Ok(appliance.store.write(move |tx| home::move_in(tx, number))?);
    }
    let last_run = appliance.store.read(grants::last_run)?;
    let seen = last_run.map_or_else(String::new, |run| format!(", after the dispatch run of {}", run.at));
    let reason = format!(
        "this database was put here from elsewhere (a replica, or a copy of the file){seen}: its unfinished rows may have \
         been called since"
    );
    tracing::warn!(event = "database.from_elsewhere", reason, "the database comes from elsewhere: dispatch is paused");
    let mut owners = appliance.store.read(restored::owners)?;
    owners.retain(|owner| *owner != appliance.owner);
    for owner in owners {
        rescue::free(appliance, Lost::OfOwner(owner))?;
    }
    let dependencies: Vec<String> = appliance.config.dependencies.keys().cloned().collect();
    let owner = appliance.owner;
    let deed = Deed {
        who: BY.to_owned(),
        origin: BY.to_owned(),
        action: "dispatch.pause",
        target: None,
        why: Some(reason.clone()),
    };
    Ok(appliance.store.write(move |tx| {
        restored::settle_in(tx, BY, &reason, &dependencies)?;
        // Those who made claims elsewhere are forgotten, and this server was noted before that.
        stuck::register(tx, owner, ProcessKind::Server)?;
        home::move_in(tx, number)?;
        audit::note(tx, &deed)
    })?)
}

/// The number in the folder; `None` where there is none, or what is there is no number.
fn read(data_dir: &Path) -> Result<Option<i64>, BackupError> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::File(path, error)),
    }
}

fn write(data_dir: &Path, number: i64) -> Result<(), BackupError> {
    let path = data_dir.join(FILE);
    let written = || {
        let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
        writeln!(file, "{number}")?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(data_dir)?.sync_all()
    };
    written().map_err(at(&path))
}
