//! `dripfeed batch`: look at batches, change them, extract one now.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::{
    deed::deed,
    error::CliError,
    open::{OpenForCommand, open_store},
    output,
};
use crate::{
    config::Config,
    extract::{self, Extracted},
    http::batch_view::BatchView,
    model::{BatchId, BatchStatus, FailureCode, Outline, outline},
    store::{
        Store, audit,
        batches::{self, Batch, Cancelled},
        extraction,
        retries::{self, Asked, LeftAlone, StepSet, Which},
        workflows,
    },
    work::upgrade::{self, Upgraded},
};

/// The subcommands of `batch`.
#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// List batches, newest first
    List {
        /// Entries at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// The `next` of an earlier page
        #[arg(long, value_name = "ID")]
        after: Option<BatchId>,
        /// Print as the API's list
        #[arg(long)]
        json: bool,
    },
    /// Show one batch
    Show {
        id: BatchId,
        #[arg(long)]
        json: bool,
    },
    /// Extract a batch now, in this process, whatever the server does
    Run {
        id: BatchId,
        /// Said by whoever means it: this is the operator's way past the scheduler
        #[arg(long, required = true)]
        manual_run: bool,
    },
    /// Claim none of its rows any more; what is under way finishes
    Pause {
        id: BatchId,
        /// Shown to whoever asks why nothing moves
        #[arg(long)]
        reason: Option<String>,
    },
    /// Claim its rows again
    Resume { id: BatchId },
    /// Try its failed rows again, in place, with what they had saved
    Retry {
        id: BatchId,
        /// Only those that failed with this code; without it, rows that were perhaps (`outcome_unknown`) or probably
        /// (`bad_answer`, where the step is not `safe`) carried out are left alone
        #[arg(long)]
        code: Option<String>,
        /// Only those that failed at this step
        #[arg(long)]
        step: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// End it: what is under way finishes, the rest is never worked
    Cancel { id: BatchId },
    /// Work it by the present version of its workflow, where nothing is under way and no row has been elsewhere
    Upgrade { id: BatchId },
}

impl BatchCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::List { limit, after, json: true } => list_json(config, limit, after),
            Self::List { limit, after, json: false } => list(&open_store(config)?.1, limit, after),
            Self::Show { id, json: true } => output::json(&view(config, id)?),
            Self::Show { id, json: false } => show(&find(&open_store(config)?.1, id)?),
            Self::Run { id, manual_run: _ } => run(config, id),
            Self::Pause { id, reason } => {
                let store = open_store(config)?.1;
                let batch = find(&store, id)?.batch;
                let made = store.write(move |tx| {
                    let made = batches::pause(tx, batch, reason.as_deref())?;
                    if made {
                        audit::note(tx, &deed("batch.pause", id.to_string(), reason.clone()))?;
                    }
                    Ok(made)
                })?;
                tell_unchanged(made, id, "paused already");
                Ok(())
            }
            Self::Resume { id } => {
                let (config, store) = open_store(config)?;
                let found = find(&store, id)?;
                must_be_workable(&config, &store, &found)?;
                let batch = found.batch;
                let made = store.write(move |tx| {
                    let made = batches::resume(tx, batch)?;
                    if made {
                        audit::note(tx, &deed("batch.resume", id.to_string(), None))?;
                    }
                    Ok(made)
                })?;
                tell_unchanged(made, id, "not paused");
                Ok(())
            }
            Self::Retry { id, code, step, json } => retry(config, id, code.as_deref(), step.as_deref(), json),
            Self::Upgrade { id } => move_to_present(config, id),
            Self::Cancel { id } => {
                let store = open_store(config)?.1;
                let found = find(&store, id)?;
                let batch = found.batch;
                let cancelled = store.write(move |tx| {
                    let cancelled = batches::cancel(tx, batch)?;
                    if cancelled == Cancelled::Now {
                        audit::note(tx, &deed("batch.cancel", id.to_string(), None))?;
                    }
                    Ok(cancelled)
                })?;
                match cancelled {
                    Cancelled::Now => Ok(()),
                    Cancelled::Before => {
                        tell_unchanged(false, id, "being cancelled already");
                        Ok(())
                    }
                    Cancelled::Ended => {
                        let status = found.status.as_str();
                        Err(CliError::Failed(format!("{id} is {status} already; nothing was changed")))
                    }
                }
            }
        }
    }
}

/// What somebody asked for is so already: that is fine, and no news.
fn tell_unchanged(made: bool, id: BatchId, is: &str) {
    if !made {
        println!("{id} is {is}; nothing was changed");
    }
}

fn find(store: &Store, id: BatchId) -> Result<Batch, CliError> {
    let found = store.read(|connection| batches::find(connection, id))?;
    found.ok_or_else(|| CliError::Failed(format!("there is no batch {id}; `dripfeed batch list` shows all")))
}

/// The outline of its workflow, of which everything has to be configured.
fn must_be_workable(config: &Config, store: &Store, batch: &Batch) -> Result<Outline, CliError> {
    let outline = store.read(|connection| workflows::outline(connection, batch.workflow_version))?;
    match outline.missing(|name| config.dependencies.contains_key(name)) {
        None => Ok(outline),
        Some(missing) => Err(CliError::Failed(outline::why_missing(&batch.workflow, missing))),
    }
}

/// As the API lists batches for an operator.
#[derive(Serialize)]
struct BatchList {
    batches: Vec<BatchView>,
    next: Option<BatchId>,
}

/// What is sealed of a batch is shown too, so that the JSON needs the keys, and not just the database.
fn list_json(config: Option<&Path>, limit: u32, after: Option<BatchId>) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    let appliance = &open.appliance;
    let batches = appliance.store.read(|connection| batches::page(connection, None, after, limit))?;
    let next = batches.last().filter(|_| batches.len() == limit as usize).map(|batch| batch.id);
    output::json(&BatchList { batches: BatchView::all(appliance, batches, true)?, next })
}

fn list(store: &Store, limit: u32, after: Option<BatchId>) -> Result<(), CliError> {
    let batches = store.read(|connection| batches::page(connection, None, after, limit))?;
    let rows: Vec<Vec<String>> = batches
        .iter()
        .map(|batch| {
            let counts = &batch.counts;
            vec![
                batch.id.to_string(),
                batch.client_name.clone(),
                shown_status(batch),
                counts.total.to_string(),
                counts.pending.to_string(),
                counts.completed.to_string(),
                counts.failed.to_string(),
                batch.created_at.to_string(),
            ]
        })
        .collect();
    output::table(&["BATCH", "CLIENT", "STATUS", "ROWS", "PENDING", "COMPLETED", "FAILED", "CREATED"], &rows);
    if let Some(last) = batches.last().filter(|_| batches.len() == limit as usize) {
        println!("older batches: --after {}", last.id);
    }
    Ok(())
}

/// As the API shows it to an operator.
fn view(config: Option<&Path>, id: BatchId) -> Result<BatchView, CliError> {
    let open = OpenForCommand::open(config)?;
    let batch = find(&open.appliance.store, id)?;
    Ok(BatchView::of(&open.appliance, batch, true)?)
}

fn show(batch: &Batch) -> Result<(), CliError> {
    let counts = &batch.counts;
    println!("{}  {} of {}", batch.id, batch.workflow, batch.client_name);
    println!("status     {}", shown_status(batch));
    if let Some((code, message)) = &batch.error {
        println!("error      {code}: {message}");
    }
    println!(
        "rows       {} = {} pending + {} processing + {} completed + {} failed + {} cancelled",
        counts.total, counts.pending, counts.processing, counts.completed, counts.failed, counts.cancelled
    );
    println!("created    {}", batch.created_at);
    Ok(())
}

fn shown_status(batch: &Batch) -> String {
    let flag = if batch.paused_at.is_some() { " (paused)" } else { "" };
    format!("{}{flag}", batch.status.as_str())
}

/// Puts the batch's failed rows back, all of them before it returns; a server beside it works them as they come.
fn retry(path: Option<&Path>, id: BatchId, code: Option<&str>, step: Option<&str>, json: bool) -> Result<(), CliError> {
    let (config, store) = open_store(path)?;
    let batch = find(&store, id)?;
    let outline = must_be_workable(&config, &store, &batch)?;
    let position = |name: &str| outline.position(name).and_then(|place| u32::try_from(place).ok());
    let which = Which {
        code: code
            .map(str::parse)
            .transpose()
            .map_err(|()| wrong("--code", &FailureCode::ALL.map(|it| it.as_str())))?,
        safe_steps: StepSet::safe(&outline),
        step: match step {
            None => None,
            Some(name) => {
                let names: Vec<_> = outline.steps.iter().map(|step| step.name.as_str()).collect();
                Some(position(name).ok_or_else(|| wrong("--step", &names))?)
            }
        },
    };
    let asked = store.write(move |tx| {
        let asked = retries::begin(tx, id, which)?;
        if asked.changes_something() {
            audit::note(tx, &deed("batch.retry", id.to_string(), None))?;
        }
        Ok(asked)
    })?;
    let mut retried = match asked {
        Asked::Retried(retried) => retried,
        Asked::Missing => return Err(CliError::Failed(format!("{id} was deleted meanwhile"))),
        Asked::Ended(status) => {
            return Err(CliError::Failed(format!("{id} is {}; nothing of it can be tried again", status.as_str())));
        }
    };
    while retried.under_way {
        let piece = store.write(move |tx| retries::carry_on_batch(tx, batch.batch))?;
        retried.rows += piece.rows;
        retried.under_way = !piece.was_last;
    }
    if json {
        return output::json(&json!({
            "batch": view(path, id)?,
            "retried": {
                "rows": retried.rows,
                "left_alone_outcome_unknown": retried.left_alone.outcome_unknown,
                "left_alone_bad_answer": retried.left_alone.bad_answer,
            },
        }));
    }
    println!("{id}: {} rows are tried again", retried.rows);
    let LeftAlone { outcome_unknown, bad_answer } = retried.left_alone;
    for (rows, why, code) in [
        (outcome_unknown, "their outcome is unknown", "outcome_unknown"),
        (bad_answer, "they were accepted, and so probably carried out", "bad_answer"),
    ] {
        if rows > 0 {
            println!(
                "{rows} rows were left alone because {why}: find out at the downstream what became of them, then \
                 `dripfeed batch retry {id} --code {code}`"
            );
        }
    }
    Ok(())
}

fn wrong(option: &str, words: &[&str]) -> CliError {
    CliError::Unusable(format!("{option} is one of {}", words.join(", ")))
}

/// Extracts a batch in this process. On one that is extracted it changes nothing, and is fine.
fn run(config: Option<&Path>, id: BatchId) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    let appliance = &open.appliance;
    let batch = find(&appliance.store, id)?;
    let (key, owner, ttl) = (batch.batch, appliance.owner, appliance.config.workers.claim_ttl);
    let claimed = appliance.store.write(move |tx| {
        extraction::release_expired(tx, key)?;
        let claimed = extraction::claim(tx, key, owner, tx.now.after(ttl))?;
        if claimed.is_some() {
            audit::note(tx, &deed("batch.run", id.to_string(), None))?;
        }
        Ok(claimed)
    })?;
    let Some(claimed) = claimed else { return not_claimed(&find(&appliance.store, id)?) };
    match extract::extract(appliance, &claimed)? {
        Extracted::Queued => {
            println!("{id} is queued: {} rows are in the work table", claimed.counts.total);
            Ok(())
        }
        Extracted::Stopped => Err(CliError::Failed(format!("{id} was cancelled or taken over meanwhile"))),
        Extracted::Later(why) => Err(CliError::Failed(format!("{id} could not be extracted now: {why}"))),
        Extracted::Failed(why) => Err(CliError::Failed(format!("{id} can never be extracted: {why}"))),
    }
}

/// Moves a batch to the version of its workflow that the configuration has now.
fn move_to_present(config: Option<&Path>, id: BatchId) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    match upgrade::upgrade(&open.appliance, id, deed(upgrade::DEED, id.to_string(), None)) {
        Ok(Upgraded::Moved) => println!("{id} goes on by the present version of its workflow"),
        Ok(Upgraded::Already) => println!("{id} has the present version of its workflow already; nothing was changed"),
        Err(refused) => return Err(CliError::Failed(format!("{id} keeps its workflow: {refused}"))),
    }
    Ok(())
}

fn not_claimed(batch: &Batch) -> Result<(), CliError> {
    match batch.status {
        BatchStatus::Queued | BatchStatus::Completed => {
            println!("{} is extracted already; nothing was changed", batch.id);
            Ok(())
        }
        BatchStatus::Pending | BatchStatus::Processing => Err(CliError::Failed(format!(
            "{} is being extracted by another process; if that one is dead, `dripfeed stuck` lists it once its claim \
             has expired",
            batch.id
        ))),
        BatchStatus::Failed | BatchStatus::Cancelled => {
            Err(CliError::Failed(format!("{} is {}; it cannot be extracted", batch.id, batch.status.as_str())))
        }
    }
}
