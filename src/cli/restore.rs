//! `dripfeed restore`: a backup into a data folder that has no database.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;

use super::{actor::actor, error::CliError, output, serve};
use crate::{
    backup::{
        BackupError, Place, PlaceName,
        restore::{Restored, Target, restore},
        revived::Revived,
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
  dripfeed restore /backups/2026-08-06 --old /lost/data
  dripfeed restore bucket:2026-08-06 --keep-revived --json         where the data folder of before is lost
  dripfeed restore latest --keep-revived                           of those that `dripfeed backups` lists
  dripfeed --config elsewhere.toml restore latest --keep-revived   into the data folder that elsewhere.toml names

The data folder must have no database, and the key file must hold the keys that the backup was sealed with. Dispatch is
paused afterwards: rows that are unfinished in the backup may have been called since, and batches that were deleted
since are deleted again, where the server noted them beside its backups. Keys, roles, clients and operators that were ended
since are good again, webhooks are where they were; pauses, limits, rates and cancellations since are gone: `--old FOLDER`, the
data folder of before, tells which, and what was deleted. Where it is lost nothing tells: a terminal is asked, and else
`--keep-revived` has to say that this is known. Set them again before you resume: remove clients and operators that should be gone (`dripfeed client list`,
`dripfeed operator list`), rotate keys (`dripfeed client rotate-key NAME --now`), pause and cancel what must not run.";

/// What to do where the data folder of before is lost.
const WHERE_LOST: &str = "where it is lost, restore with --keep-revived, then end and pause again what should be, and rotate \
                          the clients' keys and the operators' tokens before dispatch is resumed";

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
    /// The data folder of before, where it is at hand: what was deleted there since the backup stays deleted, and it is found
    /// out which keys were rotated and which clients and operators were removed
    #[arg(long, value_name = "FOLDER")]
    old: Option<PathBuf>,
    /// With --old: end those keys, clients and operators here too, tell clients where they are told now, and hold back what was
    /// held back. Without a word on it a terminal is asked, and but for a yes nothing is restored
    #[arg(long)]
    revoke_since: bool,
    /// Leave them as they are in the backup, good again; the only word where the data folder of before is lost
    #[arg(long, conflicts_with = "revoke_since")]
    keep_revived: bool,
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
        if self.revoke_since && self.old.is_none() {
            return Err(CliError::Unusable(format!(
                "--revoke-since needs --old FOLDER, the data folder of before: nothing else tells what was ended since; {WHERE_LOST}"
            )));
        }
        let config = Config::load(config)?;
        log::init(&config.log, Output::Stderr);
        let ring = keys::read_ring(&config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let there = database_files(&config.storage.data_dir).into_iter().find(|path| path.exists());
        if let (true, Some(there)) = (self.if_empty, there) {
            say!("nothing was restored: {} is there already", there.display());
            return Ok(());
        }
        let from = match self.from {
            Named::Latest => match Shelf::open(&config, runtime.handle())?.latest() {
                Err(none @ BackupError::NoneThere(_)) if self.if_empty => {
                    say!("nothing was restored: {none}");
                    return Ok(());
                }
                latest => latest?,
            },
            Named::Place(place) => place,
        };
        let ends = |revived: &Revived| match (self.revoke_since, self.keep_revived) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => ask(revived),
        };
        let place = Place::open_existing(&from, &config, runtime.handle())?;
        let _lock = serve::lock(&config.storage.data_dir)?;
        if self.old.is_none() && !self.keep_revived {
            ask_blindly()?;
        }
        let clock = Clock::machine();
        let deed = actor().deed("backup.restore", place.to_string(), None);
        let target = Target {
            config: &config,
            ring: &ring,
            clock: &clock,
            runtime: runtime.handle(),
            deed,
            old: self.old.as_deref(),
            ends: &ends,
        };
        let restored = restore(&place, target)?;
        if self.json { output::json(&restored) } else { tell(&restored, self.old.is_some()) }
    }
}

/// Asks for leave to restore where nothing tells what was ended since.
fn ask_blindly() -> Result<(), CliError> {
    const UNKNOWN: &str = "keys, roles, clients and operators that were ended since the backup was taken will be good again, webhooks \
                           are where they were, pauses, limits and cancellations since are gone, and without --old FOLDER, the data \
                           folder of before, nothing tells which";
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Unusable(format!("{UNKNOWN}, so nothing was restored; {WHERE_LOST}")));
    }
    if is_agreed(&format!("{UNKNOWN}\nrestore all the same? [y/n] ")) {
        return Ok(());
    }
    Err(CliError::Failed("nothing was restored".to_owned()))
}

/// Whether the terminal answers this with a yes. Whatever else it says, and nothing at all, is a no.
fn is_agreed(question: &str) -> bool {
    let mut said = String::new();
    let asked = std::io::stderr().write_all(question.as_bytes());
    let heard = asked.and_then(|()| std::io::stdin().lock().read_line(&mut said));
    heard.is_ok() && ["y", "yes"].iter().any(|yes| said.trim().eq_ignore_ascii_case(yes))
}

/// Asks for leave to end what the backup would make good again.
fn ask(revived: &Revived) -> Result<bool, BackupError> {
    let told = revived.told();
    if !std::io::stdin().is_terminal() {
        return Err(BackupError::Revives(format!(
            "the backup would undo what was ended or held back since ({told}), so nothing was restored: say --revoke-since to do \
             the same here, or --keep-revived to leave all as the backup has it"
        )));
    }
    let asked = format!(
        "ended or held back since the backup was taken, and not in it: {told}\nrestore, and do the same here? [y/n] "
    );
    if is_agreed(&asked) {
        return Ok(true);
    }
    Err(BackupError::Revives(
        "nothing was restored: --keep-revived restores and leaves all as the backup has it".to_owned(),
    ))
}

fn tell(restored: &Restored, old_is_known: bool) -> Result<(), CliError> {
    say!("restored, as of {}: the database and {} stored files", restored.taken_at, restored.files);
    say!("dispatch is paused: {}\n", restored.paused);
    if restored.may_have_been_called.is_empty() {
        say!("every batch in it was finished: no row of them will be called again");
    } else {
        say!("these rows were unfinished then, and may have been called since:");
        let rows: Vec<Vec<String>> = restored.may_have_been_called.iter().map(line).collect();
        output::table(&["BATCH", "CLIENT", "ROWS", "NEXT STEPS", "WHAT A REPEATED CALL CAN DO"], &rows);
    }
    say!("\nbatches accepted since then are not in it");
    match (old_is_known, restored.ended) {
        (false, _) => say!(
            "keys and roles taken away, and clients and operators removed since then are good again, webhooks are where they were, \
             and pauses, limits and cancellations since are gone: where the old data folder is at hand, restore with `--old FOLDER`; else set them again \
             (`dripfeed client list`, `dripfeed operator list`)"
        ),
        (true, true) => say!("ended or held back here too: {}", restored.revived.told()),
        (true, false) if restored.revived.is_empty() => say!("nothing was ended or held back since"),
        (true, false) => say!("as the backup has it, as you said: {}", restored.revived.told()),
    }
    match (restored.deletions_known, restored.deleted.len()) {
        (false, _) => say!("batches deleted since then are back: nothing beside the backup tells which"),
        (true, 0) => say!("no batch of it was deleted since"),
        (true, batches) => say!("{batches} batches were deleted since, and are deleted here too"),
    }
    say!(
        "next: `dripfeed serve`, look at these batches (`dripfeed batch show ID`, pause or cancel what must not run),"
    );
    say!("then let it go on: POST /ops/v1/dispatch/resume");
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
