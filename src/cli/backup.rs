//! `dripfeed backup`: everything but the keys, while the server runs.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{actor::actor, error::CliError, open::open_store, output};
use crate::{
    appliance::open_objects,
    backup::{
        Place, PlaceName,
        manifest::{Manifest, StoredFiles},
        take::{Source, take},
    },
    closing::Closing,
    config, keys,
    model::Timestamp,
    operations,
};

const EXAMPLES: &str = "\
Examples:
  dripfeed backup /backups/$(date +%F)       a folder, which is made
  dripfeed backup bucket:$(date +%F)         the configured bucket, under backups/
  dripfeed restore latest --old /lost/data   the way back

The key file is never in a backup: keep a copy of it elsewhere. What is in a bucket already stays there and is not
copied. A backup that was interrupted has no manifest.json, and the same command takes it anew.";

/// Back up the database and the stored files, also while the server runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backup {
    /// A new or empty folder, or bucket:NAME
    #[arg(value_name = "TO")]
    to: PlaceName,
    /// Print what was backed up as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Taken<'a> {
    place: String,
    taken_at: Timestamp,
    database_bytes: u64,
    files: usize,
    keys: &'a [String],
    verified: bool,
}

impl Backup {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (config, store) = open_store(config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let objects = open_objects(&config, runtime.handle()).map_err(|error| CliError::Failed(error.to_string()))?;
        let ring = keys::read_ring(&config)?;
        // So that the backup has the appliance's secret, by which a restore knows the data folder of before.
        keys::unlock(&store, &ring)?;
        let place = Place::open_new(&self.to, &config, runtime.handle())?;
        let source = Source {
            store: &store,
            objects: &objects,
            in_bucket: matches!(config.objects, config::Objects::Minio(_)),
            data_dir: &config.storage.data_dir,
            name: None,
            previous: None,
            ring: &ring,
            closing: &Closing::default(),
        };
        let manifest = take(&source, &place)?;
        operations::note(&store, actor().deed("backup.take", place.to_string(), None))?;
        self.tell(&place, &manifest)
    }

    fn tell(&self, place: &Place, manifest: &Manifest) -> Result<(), CliError> {
        if self.json {
            return output::json(&Taken {
                place: place.to_string(),
                taken_at: manifest.taken_at,
                database_bytes: manifest.database.bytes,
                files: manifest.files(),
                keys: &manifest.keys,
                verified: true,
            });
        }
        say!("backed up to {place}, as of {}; verified", manifest.taken_at);
        say!("database  {} bytes", manifest.database.bytes);
        match &manifest.stored_files {
            StoredFiles::InBackup(files) => say!("files     {}", files.len()),
            StoredFiles::InBucket(bucket) => say!("files     stay in {bucket}"),
        }
        say!("keys      {}: not in the backup, and needed to restore it", manifest.keys.join(", "));
        Ok(())
    }
}
