//! `dripfeed stuck`: claims that expired, and their way out.

use std::path::Path;

use clap::Args;

use super::{deed::deed, error::CliError, open::OpenForCommand, output};
use crate::http::stuck::StuckView;

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
        let view = match self.apply {
            true => StuckView::reconcile(appliance, deed("stuck.reconcile", "expired claims", None))?,
            false => StuckView::read(appliance)?,
        };
        if self.json {
            return output::json(&view);
        }
        for row in &view.rows {
            println!("{}  claim expired {}  -> {}", row.row, row.expired_at, row.becomes);
        }
        for batch in &view.batches {
            println!(
                "{}  claim expired {}  -> {}, {} rows are in the work table",
                batch.batch, batch.expired_at, batch.becomes, batch.extracted
            );
        }
        match view.applied {
            Some(freed) => println!("freed {} rows and {} batches", freed.rows, freed.batches),
            None if view.rows.is_empty() && view.batches.is_empty() => println!("nothing is stuck"),
            None => println!(
                "{} rows and {} batches are stuck; nothing was changed: `dripfeed stuck --apply` frees them",
                view.rows.len(),
                view.batches.len()
            ),
        }
        Ok(())
    }
}
