//! `dripfeed backups`: what there is to restore.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{error::CliError, output};
use crate::{
    backup::{
        BackupError,
        shelf::{Entry, Shelf},
    },
    config::Config,
    model::Timestamp,
    telemetry::log::{self, Output},
};

const EXAMPLES: &str = "\
Examples:
  dripfeed backups                           where backup.to says, or in the bucket
  dripfeed backups /mnt/backups --json       in this folder
  dripfeed restore latest                    the last whole one that the server took

The server takes them as [backup] says, and removes what is older than backup.keep, but never the last whole one. What
is not whole is under way, or broke off and goes by itself.";

/// List backups: those that the server took by itself, and others beside them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backups {
    /// A folder in which each backup is a folder [default: backup.to, else the bucket]
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Listed {
    /// Where they are.
    place: String,
    /// By name, and so by time.
    backups: Vec<Line>,
}

/// A backup.
#[derive(Serialize)]
struct Line {
    /// Its name there.
    name: String,
    /// What `restore` takes.
    place: String,
    /// The moment whose state it holds; null where it is not whole.
    taken_at: Option<Timestamp>,
    /// Whether it can be restored.
    whole: bool,
    /// Whether a server took it by itself, and removes it when it is old.
    scheduled: bool,
    /// The database's size.
    database_bytes: Option<u64>,
    /// Stored files that it has; 0 where they stay in a bucket.
    files: Option<usize>,
}

impl Backups {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let config = Config::load(config)?;
        log::init(&config.log, Output::Stderr);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shelf = match self.folder {
            Some(folder) => Shelf::Folder(folder),
            None => Shelf::open(&config, runtime.handle())?,
        };
        let backups = shelf.entries()?.iter().map(|entry| line(&shelf, entry)).collect::<Result<Vec<_>, _>>()?;
        let listed = Listed { place: shelf.to_string(), backups };
        if self.json { output::json(&listed) } else { tell(&listed) }
    }
}

fn line(shelf: &Shelf, entry: &Entry) -> Result<Line, CliError> {
    let manifest = match shelf.manifest(&entry.name) {
        Ok(manifest) => Some(manifest),
        // Not whole, removed since it was listed, or not ours to understand.
        Err(BackupError::NotWhole(_) | BackupError::Manifest(_) | BackupError::Newer(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Line {
        name: entry.name.clone(),
        place: shelf.place(&entry.name).to_string(),
        taken_at: manifest.as_ref().map(|manifest| manifest.taken_at),
        whole: manifest.is_some(),
        scheduled: entry.scheduled.is_some(),
        database_bytes: manifest.as_ref().map(|manifest| manifest.database.bytes),
        files: manifest.as_ref().map(|manifest| manifest.files()),
    })
}

fn tell(listed: &Listed) -> Result<(), CliError> {
    if listed.backups.is_empty() {
        say!("there is no backup in {}", listed.place);
        return Ok(());
    }
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let line = |it: &Line| {
        vec![
            it.place.clone(),
            it.taken_at.map_or_else(|| "not whole".to_owned(), |at| at.to_string()),
            if it.scheduled { "the server" } else { "somebody" }.to_owned(),
            or_none(it.database_bytes.map(|bytes| bytes.to_string())),
            or_none(it.files.map(|files| files.to_string())),
        ]
    };
    let rows: Vec<Vec<String>> = listed.backups.iter().map(line).collect();
    output::table(&["BACKUP", "AS OF", "TAKEN BY", "DATABASE BYTES", "FILES"], &rows);
    Ok(())
}
