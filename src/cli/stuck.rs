//! `dripfeed stuck`: claims that expired, and their way out.

use std::path::Path;

use clap::Args;

use super::{actor::actor, error::CliError, open::OpenForCommand, output, serve};
use crate::{appliance::Appliance, dispatch::rescue, model::Timestamp, operations::views::stuck::StuckView};

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
        let by = expired_by(appliance)?;
        let view = match self.apply {
            true => StuckView::reconcile(appliance, &actor(), by, None)?,
            false => StuckView::read(appliance, by)?,
        };
        if self.json {
            return output::json(&view);
        }
        for row in &view.rows {
            say!("{}  claim expired {}  -> {}", row.row, row.expired_at, row.becomes);
        }
        for batch in &view.batches {
            say!(
                "{}  claim expired {}  -> {}, {} rows are in the work table",
                batch.batch,
                batch.expired_at,
                batch.becomes,
                batch.extracted
            );
        }
        match view.applied {
            Some(freed) => say!("freed {} rows and {} batches", freed.rows, freed.batches),
            None if view.is_empty() => say!("nothing is stuck"),
            None => say!(
                "{} rows and {} batches are stuck; nothing was changed: `dripfeed stuck --apply` frees them",
                view.rows.len(),
                view.batches.len()
            ),
        }
        Ok(())
    }
}

/// Claims that had expired by then, and did not get longer since, are stuck. A server that runs renews those of the rows that
/// its workers have in hand, also behind a database that was locked for long: it is given the time to.
fn expired_by(appliance: &Appliance) -> Result<Timestamp, CliError> {
    let now = appliance.clock.now();
    let is_any = !StuckView::read(appliance, now)?.is_empty();
    if is_any && serve::is_served(&appliance.config.storage.data_dir) {
        appliance.closing.wait(rescue::renewed_within(appliance.config.workers.claim_ttl));
    }
    Ok(now)
}
