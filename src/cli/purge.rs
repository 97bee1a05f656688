//! `dripfeed purge`: finished batches that are old.

use std::{path::Path, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{actor::actor, error::CliError, open::OpenForCommand, open::open_store, output, serve};
use crate::{
    appliance::Appliance,
    chores,
    clock::Clock,
    config::parse_duration,
    model::Timestamp,
    retention,
    store::retention::{self as table, OldBatch},
};

/// Batches that a dry run lists.
const LISTED: u32 = 1_000;

const EXAMPLES: &str = "\
Examples:
  dripfeed purge --older-than 30d             what would go: a dry run
  dripfeed purge --older-than 30d --apply     it goes: rows, keys and stored files

Only finished batches go: completed, failed or cancelled for that long. `[retention] finished_batches` lets a server do
the same by itself. Backups that were taken before still hold what is purged.";

/// Purge finished batches that are old; a dry run, unless --apply
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Purge {
    /// How long ago they finished, like 12h or 30d
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    older_than: Duration,
    /// Delete them
    #[arg(long)]
    apply: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Purged {
    /// Batches that finished before this.
    finished_before: Timestamp,
    /// How many there are.
    total: u64,
    /// The oldest of them.
    batches: Vec<OldBatch>,
    /// What was done; `null` for a dry run.
    applied: Option<Applied>,
}

#[derive(Serialize)]
struct Applied {
    /// Batches that are gone: nobody can find or open them any more.
    batches: u64,
    /// Whether their rows and files are gone, too. Otherwise a server is at it.
    carried_out: bool,
}

impl Purge {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (_, store) = open_store(config)?;
        let before = Clock::machine().now().before(self.older_than);
        let (total, batches) = store.read(|connection| {
            Ok((table::count_old_batches(connection, before)?, table::old_batches(connection, before, None, LISTED)?))
        })?;
        drop(store);
        let applied = if self.apply { Some(apply(config, before)?) } else { None };
        let purged = Purged { finished_before: before, total, batches, applied };
        if self.json { output::json(&purged) } else { tell(&purged) }
    }
}

fn apply(config: Option<&Path>, before: Timestamp) -> Result<Applied, CliError> {
    let open = OpenForCommand::open(config)?;
    let appliance = &open.appliance;
    let deed = actor().deed("batch.purge", "finished batches", Some(format!("finished before {before}")));
    let batches = retention::purge(&appliance.store, before, appliance.config.backup.copies_kept(), &deed)?;
    Ok(Applied { batches, carried_out: carry_out(appliance)? })
}

/// Clears away what deletions left; whether all of it is gone. Where a server runs, it does that by itself.
pub(super) fn carry_out(appliance: &Appliance) -> Result<bool, CliError> {
    match serve::lock(&appliance.config.storage.data_dir) {
        Ok(_alone) => Ok(chores::finish_deletions(appliance)?),
        Err(_) => Ok(false),
    }
}

fn tell(purged: &Purged) -> Result<(), CliError> {
    if purged.total == 0 {
        say!("no batch finished before {}", purged.finished_before);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = purged.batches.iter().map(line).collect();
    output::table(&["BATCH", "CLIENT", "STATUS", "ROWS", "FINISHED"], &rows);
    let more = purged.total.saturating_sub(rows.len() as u64);
    if more > 0 {
        say!("... and {more} more");
    }
    match &purged.applied {
        None => say!("{} batches would go; nothing was changed: --apply deletes them", purged.total),
        Some(Applied { batches, carried_out: true }) => say!("{batches} batches are gone: rows, keys and files"),
        Some(Applied { batches, carried_out: false }) => {
            say!("{batches} batches are gone with their keys; a server clears their rows and files away");
        }
    }
    Ok(())
}

fn line(batch: &OldBatch) -> Vec<String> {
    vec![
        batch.id.to_string(),
        batch.client.clone(),
        batch.status.as_str().to_owned(),
        batch.rows.to_string(),
        batch.finished_at.to_string(),
    ]
}
