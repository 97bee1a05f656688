//! `dripfeed row`: look at one row, or work it here and now.

use std::{path::Path, sync::Arc};

use clap::Subcommand;

use super::{actor::actor, error::CliError, open::OpenForCommand, output};
use crate::{
    appliance::Appliance,
    dispatch::waiting,
    model::RowRef,
    operations::{self, views::row::RowView},
    store::{
        batches::{self, Batch},
        claims::NotClaimed,
        rows,
    },
    work::{ending::Ended, noter::Notes, row_work, worker::Patience},
};

/// The subcommands of `row`.
#[derive(Debug, Subcommand)]
pub enum RowCommand {
    /// Show a row with its steps; values are masked, unless --reveal
    Show {
        #[arg(value_name = "BATCH/NUMBER")]
        row: RowRef,
        /// Show the values themselves; the audit says who looked
        #[arg(long)]
        reveal: bool,
        #[arg(long)]
        json: bool,
    },
    /// Claim a row and work it here and now, whatever is paused or granted, but never past a rate or a gate
    Run {
        #[arg(value_name = "BATCH/NUMBER")]
        row: RowRef,
        /// Send it again although an earlier request's outcome is unknown
        #[arg(long)]
        resend: bool,
    },
}

impl RowCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let open = OpenForCommand::open(config)?;
        match self {
            Self::Show { row, reveal, json } => show(&open.appliance, row, reveal, json),
            Self::Run { row, resend } => run(&open.appliance, row, resend),
        }
    }
}

fn batch_of(appliance: &Appliance, row: RowRef) -> Result<Batch, CliError> {
    let found = appliance.store.read(|connection| batches::find(connection, row.batch))?;
    found.ok_or_else(|| CliError::Failed(format!("there is no batch {}; `dripfeed batch list` shows all", row.batch)))
}

fn show(appliance: &Appliance, row: RowRef, reveal: bool, json: bool) -> Result<(), CliError> {
    let batch = batch_of(appliance, row)?;
    let stored = appliance.store.read(|connection| rows::find(connection, &batch, row.number))?;
    let stored = stored.ok_or_else(|| missing(row))?;
    let open = appliance
        .open_batch(batch.batch, batch.workflow_version)
        .map_err(|error| CliError::Failed(error.to_string()))?;
    let waits_for = waiting::of_batch(appliance, &batch)?;
    if reveal {
        // On disk before anything is shown.
        operations::rows::reveal(&appliance.store, &actor(), row.batch, Some(row.number))?;
    }
    let view = RowView::of(appliance, &open, &stored, !reveal, waits_for.as_deref());
    if json {
        return output::json(&view);
    }
    say!("{row}  {}", stored.status.as_str());
    output::json(&view)
}

fn run(appliance: &Arc<Appliance>, row: RowRef, resend: bool) -> Result<(), CliError> {
    let batch = batch_of(appliance, row)?;
    let kept = appliance.workflow(batch.workflow_version).map_err(|error| CliError::Failed(error.to_string()))?;
    let way = kept.way().map_err(|error| CliError::Failed(error.to_string()))?;
    let claimed = operations::rows::claim(appliance, &actor(), &batch, row, resend)?;
    let claimed = claimed.map_err(|why| CliError::Failed(refusal(row, why)))?;
    let reservation = way.reserve(claimed.step as usize);
    let (noter, notes) = Notes::open(appliance)?;
    let ended = row_work::work(appliance, claimed, reservation, Patience::Unlimited, notes)?;
    noter.join();
    match ended {
        Ended::Completed => {
            say!("{row} is completed");
            Ok(())
        }
        Ended::Failed(code) => {
            Err(CliError::Failed(format!("{row} failed: {}; `dripfeed row show {row}` says more", code.as_str())))
        }
        Ended::Released(at) => Err(CliError::Failed(format!("{row} did not succeed; it will be tried again at {at}"))),
        Ended::TakenOver => Err(CliError::Failed(format!("{row} was taken over by somebody else"))),
    }
}

fn refusal(row: RowRef, why: NotClaimed) -> String {
    match why {
        NotClaimed::Missing => missing(row).to_string(),
        NotClaimed::Finished(status) => format!("{row} is {} already", status.as_str()),
        NotClaimed::Held(until) => format!("{row} is being worked by somebody else, whose claim lasts until {until}"),
        NotClaimed::BatchEnded => format!("{row} belongs to a batch that was cancelled or has failed"),
    }
}

fn missing(row: RowRef) -> CliError {
    CliError::Failed(format!(
        "there is no row {row} in the work table: the batch has fewer rows, or is not extracted yet"
    ))
}
