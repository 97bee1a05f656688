//! `dripfeed restore`: a backup into a data folder that has no database.

use std::{path::Path, str::FromStr};

use clap::Args;

use super::{deed::deed, error::CliError, output, serve};
use crate::{
    backup::{
        BackupError, Place, PlaceName,
        restore::{Restored, Target, restore},
        risk::{BatchAtRisk, Danger},
        shelf::Shelf,
    },
    clock::Clock,
    config::Config,
    keys,
    store::backups::database_files,
    telemetry::log::{self, Output},
};

const EXAMPLES: &str = "\
Examples:
  dripfeed restore /backups/2026-08-06
  dripfeed restore bucket:2026-08-06 --json
  dripfeed restore latest                                          of those that `dripfeed backups` lists
  dripfeed --config elsewhere.toml restore /backups/2026-08-06     into the data folder that elsewhere.toml names

The data folder must have no database, and the key file must hold the keys that the backup was sealed with. Dispatch is
paused afterwards: rows that are unfinished in the backup may have been called since, and batches that were deleted
since are back.";

const LATEST: &str = "latest";

/// Restore a backup into a data folder that has no database
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Restore {
    /// The folder that holds the backup, bucket:NAME, or `latest`: the last whole one that the server took by itself
    #[arg(value_name = "FROM")]
    from: Named,
    /// Do nothing, and end well, where there is a database already, or no backup yet: for what runs at each start
    #[arg(long)]
    if_empty: bool,
    /// Print what was restored, and what may have been called since, as JSON
    #[arg(long)]
    json: bool,
}

/// What was named on the command line.
#[derive(Debug, Clone)]
enum Named {
    /// `latest`; a folder of that name is `./latest`.
    Latest,
    /// A place.
    Place(PlaceName),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == LATEST { Ok(Self::Latest) } else { text.parse().map(Self::Place) }
    }
}

impl Restore {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let config = Config::load(config)?;
        log::init(&config.log, Output::Stderr);
        let ring = keys::read_ring(&config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let there = database_files(&config.storage.data_dir).into_iter().find(|path| path.exists());
        if let (true, Some(there)) = (self.if_empty, there) {
            println!("nothing was restored: {} is there already", there.display());
            return Ok(());
        }
        let from = match self.from {
            Named::Latest => match Shelf::open(&config, runtime.handle())?.latest() {
                Err(none @ BackupError::NoneThere(_)) if self.if_empty => {
                    println!("nothing was restored: {none}");
                    return Ok(());
                }
                latest => latest?,
            },
            Named::Place(place) => place,
        };
        let place = Place::open_existing(&from, &config, runtime.handle())?;
        let _lock = serve::lock(&config.storage.data_dir)?;
        let clock = Clock::machine();
        let deed = deed("backup.restore", place.to_string(), None);
        let target = Target { config: &config, ring: &ring, clock: &clock, runtime: runtime.handle(), deed };
        let restored = restore(&place, target)?;
        if self.json { output::json(&restored) } else { tell(&restored) }
    }
}

fn tell(restored: &Restored) -> Result<(), CliError> {
    println!("restored, as of {}: the database and {} stored files", restored.taken_at, restored.files);
    println!("dispatch is paused: {}\n", restored.paused);
    if restored.may_have_been_called.is_empty() {
        println!("every batch in it was finished: no row of them will be called again");
    } else {
        println!("these rows were unfinished then, and may have been called since:");
        let rows: Vec<Vec<String>> = restored.may_have_been_called.iter().map(line).collect();
        output::table(&["BATCH", "CLIENT", "ROWS", "NEXT STEPS", "WHAT A REPEATED CALL CAN DO"], &rows);
    }
    println!("\nbatches accepted since then are not in it; batches deleted since then are back");
    println!(
        "next: `dripfeed serve`, look at these batches (`dripfeed batch show ID`, pause or cancel what must not run),"
    );
    println!("then let it go on: POST /ops/v1/dispatch/resume");
    Ok(())
}

fn line(batch: &BatchAtRisk) -> Vec<String> {
    let steps: Vec<String> = batch.next_steps.iter().map(|next| format!("{} {}", next.rows, next.step)).collect();
    let danger = match batch.danger {
        Danger::None => "nothing: safe, or under the same key",
        Danger::KeyForgotten => "WARNING: something twice, its key may be forgotten",
        Danger::NeverRepeat => "WARNING: something twice, repeat = \"never\"",
    };
    vec![batch.batch.clone(), batch.client.clone(), batch.rows.to_string(), steps.join(", "), danger.to_owned()]
}
