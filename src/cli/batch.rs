//! `dripfeed batch`: look at batches, change them, extract one now.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::{
    actor::{self, actor},
    error::CliError,
    open::{OpenForCommand, open_store},
    output, purge,
};
use crate::{
    dispatch::{estimate::Estimate, outlook::Outlook},
    extract::{self, Extracted},
    model::{BatchId, BatchStatus, FailureCode, words},
    operations::{
        Env,
        batches::{self, BatchFault, Changed},
        retries,
        views::batch::BatchView,
    },
    store::{
        Store,
        batches::{Batch, find as find_batch, page},
        pages::Most,
        retries::LeftAlone,
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
        #[arg(long, value_parser = actor::reason)]
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
    /// Delete a finished one for good: rows, key and stored file
    Delete { id: BatchId },
    /// Work it by the present version of its workflow, where nothing is under way and no row has been elsewhere
    Upgrade { id: BatchId },
}

impl BatchCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::List { limit, after, json: true } => list_json(config, limit, after),
            Self::List { limit, after, json: false } => list(&open_store(config)?.1, limit, after),
            Self::Show { id, json: true } => output::json(&view(config, id)?),
            Self::Show { id, json: false } => show(config, id),
            Self::Run { id, manual_run: _ } => run(config, id),
            Self::Pause { id, reason } => {
                change(config, id, "paused already", |env, batch| batches::pause(env, &actor(), batch, reason))
            }
            Self::Resume { id } => {
                change(config, id, "not paused", |env, batch| batches::resume(env, &actor(), batch, None))
            }
            Self::Retry { id, code, step, json } => retry(config, id, code.as_deref(), step.as_deref(), json),
            Self::Upgrade { id } => move_to_present(config, id),
            Self::Delete { id } => delete(config, id),
            Self::Cancel { id } => {
                change(config, id, "being cancelled already", |env, batch| batches::cancel(env, &actor(), batch, None))
            }
        }
    }
}

/// Changes a batch. What somebody asked for may be so already: that is fine, and no news.
fn change(
    config: Option<&Path>,
    id: BatchId,
    is_so: &str,
    make: impl FnOnce(Env<'_>, &Batch) -> Result<Changed, BatchFault>,
) -> Result<(), CliError> {
    let (config, store) = open_store(config)?;
    let changed = make(Env::of_store(&store, &config), &find(&store, id)?).map_err(|fault| told(fault, id))?;
    if !changed.is_news {
        say!("{id} is {is_so}; nothing was changed");
    }
    Ok(())
}

fn told(fault: BatchFault, id: BatchId) -> CliError {
    let because = |why: &str| CliError::Failed(format!("{id} {why}; nothing was changed"));
    match fault {
        BatchFault::Missing => because("was deleted meanwhile"),
        BatchFault::Ended(status) => because(&format!("is {} already", status.as_str())),
        BatchFault::Unfinished(status) => {
            because(&format!("is {}, and only a finished batch can be deleted: cancel it first", status.as_str()))
        }
        BatchFault::Claimed => because("has a row that is being worked on: try again in a while"),
        BatchFault::NoStep(names) => wrong("--step", &names),
        BatchFault::Unworkable(why) => CliError::Failed(why),
        BatchFault::Store(error) => error.into(),
    }
}

fn find(store: &Store, id: BatchId) -> Result<Batch, CliError> {
    let found = store.read(|connection| find_batch(connection, id))?;
    found.ok_or_else(|| CliError::Failed(format!("there is no batch {id}; `dripfeed batch list` shows all")))
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
    let page = appliance.store.read(|connection| page(connection, None, after, Most::of_any_length(limit)))?;
    let next = page.next(|batch| batch.id);
    let batches = page.entries.into_iter().map(BatchView::each(appliance, true)?).collect::<Result<_, _>>()?;
    output::json(&BatchList { batches, next })
}

fn list(store: &Store, limit: u32, after: Option<BatchId>) -> Result<(), CliError> {
    let page = store.read(|connection| page(connection, None, after, Most::of_any_length(limit)))?;
    let rows: Vec<Vec<String>> = page
        .entries
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
    if let Some(last) = page.next(|batch| batch.id) {
        say!("older batches: --after {last}");
    }
    Ok(())
}

/// As the API shows it to an operator.
fn view(config: Option<&Path>, id: BatchId) -> Result<BatchView, CliError> {
    let open = OpenForCommand::open(config)?;
    let batch = find(&open.appliance.store, id)?;
    Ok(BatchView::of(&open.appliance, batch, true)?)
}

fn show(config: Option<&Path>, id: BatchId) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    let batch = &find(&open.appliance.store, id)?;
    let outlook = Outlook::of(&open.appliance, batch)?;
    let counts = &batch.counts;
    say!("{}  {} of {}", batch.id, batch.workflow, batch.client_name);
    say!("status     {}", shown_status(batch));
    if let Some((code, message)) = &batch.error {
        say!("error      {code}: {message}");
    }
    say!(
        "rows       {} = {} pending + {} processing + {} completed + {} failed + {} cancelled",
        counts.total,
        counts.pending,
        counts.processing,
        counts.completed,
        counts.failed,
        counts.cancelled
    );
    say!("created    {}", batch.created_at);
    if let Some(why) = outlook.waiting_for {
        say!("waits for  {why}");
    }
    if let Some(Estimate { finished_at, reason, .. }) = outlook.estimate {
        say!("done by    {finished_at}: {reason}");
    }
    Ok(())
}

fn shown_status(batch: &Batch) -> String {
    let flag = if batch.paused_at.is_some() { " (paused)" } else { "" };
    format!("{}{flag}", batch.status.as_str())
}

/// Puts the batch's failed rows back, all of them before it returns; a server beside it works them as they come.
fn retry(path: Option<&Path>, id: BatchId, code: Option<&str>, step: Option<&str>, json: bool) -> Result<(), CliError> {
    let (config, store) = open_store(path)?;
    let env = Env::of_store(&store, &config);
    let code = code.map(str::parse).transpose();
    let code = code.map_err(|_| wrong("--code", &words(FailureCode::ALL)))?;
    let retried = retries::retry(env, &actor(), &find(&store, id)?, code, step);
    let (retried, batch) = retried.map_err(|fault| told(fault, id))?;
    let retried = retries::carry_out(env, &batch, retried)?;
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
    say!("{id}: {} rows are tried again", retried.rows);
    let LeftAlone { outcome_unknown, bad_answer } = retried.left_alone;
    for (rows, why, code) in [
        (outcome_unknown, "their outcome is unknown", "outcome_unknown"),
        (bad_answer, "they were accepted, and so probably carried out", "bad_answer"),
    ] {
        if rows > 0 {
            say!(
                "{rows} rows were left alone because {why}: find out at the downstream what became of them, then \
                 `dripfeed batch retry {id} --code {code}`"
            );
        }
    }
    Ok(())
}

fn wrong<T: AsRef<str>>(option: &str, words: &[T]) -> CliError {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    CliError::Unusable(format!("{option} is one of {}", words.join(", ")))
}

/// Extracts a batch in this process. On one that is extracted it changes nothing, and is fine.
fn run(config: Option<&Path>, id: BatchId) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    let appliance = &open.appliance;
    let batch = find(&appliance.store, id)?;
    let claimed = batches::claim_extraction(appliance, &actor(), &batch)?;
    let Some(claimed) = claimed else { return not_claimed(&find(&appliance.store, id)?) };
    match extract::extract(appliance, &claimed)? {
        Extracted::Queued => {
            say!("{id} is queued: {} rows are in the work table", claimed.counts.total);
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
    match upgrade::upgrade(&open.appliance, id, actor().deed(upgrade::DEED, id.to_string(), None)) {
        Ok(Upgraded::Moved) => say!("{id} goes on by the present version of its workflow"),
        Ok(Upgraded::Already) => say!("{id} has the present version of its workflow already; nothing was changed"),
        Err(refused) => return Err(CliError::Failed(format!("{id} keeps its workflow: {refused}"))),
    }
    Ok(())
}

/// Deletes a batch, and says what a receipt says.
fn delete(config: Option<&Path>, id: BatchId) -> Result<(), CliError> {
    let open = OpenForCommand::open(config)?;
    let appliance = &open.appliance;
    let batch = find(&appliance.store, id)?;
    let deleted = batches::delete(Env::of(appliance), &actor(), &batch);
    let receipt = deleted.map_err(|fault| told(fault, id))?;
    match purge::carry_out(appliance)? {
        true => say!("{id} is gone: {} rows, its key and its file", receipt.rows),
        false => say!("{id} is gone with its key; a server clears its {} rows and its file away", receipt.rows),
    }
    if let Some(until) = receipt.backups_until {
        say!("a backup from before may hold it until {until}");
    }
    Ok(())
}

fn not_claimed(batch: &Batch) -> Result<(), CliError> {
    match batch.status {
        BatchStatus::Queued | BatchStatus::Completed => {
            say!("{} is extracted already; nothing was changed", batch.id);
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
