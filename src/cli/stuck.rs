//! `dripfeed stuck`: claims that expired, and their way out.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{error::CliError, open::OpenForCommand, output};
use crate::{
    dispatch::rescue,
    model::RowRef,
    store::stuck::{self, Lost, StuckBatch, StuckRow},
};

/// Stuck entries that are listed.
const LISTED: u32 = 1_000;

/// Rows and batches in `processing` whose claim has expired.
#[derive(Debug, Args)]
pub struct Stuck {
    /// Free them: rows become pending and are due at once, batches are extracted again from where they stopped
    #[arg(long)]
    apply: bool,
    #[arg(long)]
    json: bool,
}

impl Stuck {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let open = OpenForCommand::open(config)?;
        let appliance = &open.appliance;
        let now = appliance.clock.now();
        let (rows, batches) = appliance.store.read(|connection| stuck::list(connection, now, LISTED))?;
        let freed = if self.apply { Some(rescue::free(appliance, Lost::Expired)?) } else { None };
        if self.json {
            return output::json(&json!({
                "rows": rows.iter().map(row_json).collect::<Vec<_>>(),
                "batches": batches.iter().map(batch_json).collect::<Vec<_>>(),
                "applied": freed.map(|freed| json!({ "rows": freed.rows, "batches": freed.batches })),
            }));
        }
        for row in &rows {
            println!("{}  claim expired {}  -> pending, due at once", name(row), row.expired_at);
        }
        for batch in &batches {
            println!(
                "{}  claim expired {}  -> pending, extraction goes on behind row {}",
                batch.batch, batch.expired_at, batch.extracted
            );
        }
        match freed {
            Some(freed) => println!("freed {} rows and {} batches", freed.rows, freed.batches),
            None if rows.is_empty() && batches.is_empty() => println!("nothing is stuck"),
            None => println!(
                "{} rows and {} batches are stuck; nothing was changed: `dripfeed stuck --apply` frees them",
                rows.len(),
                batches.len()
            ),
        }
        Ok(())
    }
}

fn name(row: &StuckRow) -> RowRef {
    RowRef { batch: row.batch, number: row.row.number() }
}

fn row_json(row: &StuckRow) -> serde_json::Value {
    json!({ "row": name(row).to_string(), "expired_at": row.expired_at, "becomes": "pending" })
}

fn batch_json(batch: &StuckBatch) -> serde_json::Value {
    json!({ "batch": batch.batch, "extracted": batch.extracted, "expired_at": batch.expired_at, "becomes": "pending" })
}
