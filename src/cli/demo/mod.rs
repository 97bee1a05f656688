//! `dripfeed demo`: the whole thing on one machine, with nothing set up.
//!
//! It is a user like any other: the CSV goes in over HTTP, and what is shown is what the API says.

mod people;
mod settings;
mod watch;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use clap::Args;
use people::People;
use settings::Pace;
use tokio::sync::Notify;
use watch::Watch;

use super::{actor::actor, client::told, error::CliError, serve::Server};
use crate::{
    clock::Clock,
    closing::Closing,
    operations::{
        Env,
        clients::{self, NewClient},
    },
    private,
    simulator::{Simulator, SimulatorOptions, Stats},
    telemetry::log::{self, Output},
};

/// Run the whole thing on this machine, with nothing set up.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dripfeed demo\n  dripfeed demo --rows 1000000 --exit")]
pub struct Demo {
    /// Rows of the sample CSV
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rows: u32,
    /// Keep the data here [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// End when the rows have
    #[arg(long)]
    exit: bool,
}

/// The name of the demo's client.
const CLIENT: &str = "demo";

impl Demo {
    pub(super) fn run(self) -> Result<(), CliError> {
        let temporary = tempfile::Builder::new().prefix("dripfeed-demo-").tempdir()?;
        let data_dir = self.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
        private::folder(&data_dir)?;
        let pace = Pace::for_rows(self.rows);
        let simulator = Simulator::start(SimulatorOptions {
            // A little above our own limit: it has to hold because we keep it, not because it is enforced.
            rate: Some(pace.calls() + pace.calls() / 10 + 20),
            ..SimulatorOptions::default()
        })?;
        let (config, operator_token) = settings::config(&data_dir, simulator.address(), pace)?;
        log::init(&config.log, Output::Stderr);
        let server = Server::start(config, Clock::machine())?;
        let address = server.address()?;
        let new = NewClient { name: CLIENT.to_owned(), rows_per_run: None, workflows: None };
        let key = clients::add(Env::of(server.appliance()), &actor(), new).map_err(|fault| told(fault, CLIENT))?.key;

        let (stop, end) = (Arc::new(Notify::new()), Closing::default());
        let serving = std::thread::spawn({
            let stop = stop.clone();
            move || server.run_until(async move { stop.notified().await })
        });
        listen_for_ctrl_c(&end)?;
        let watch = Watch { address, key: key.clone(), rows: self.rows, pace, simulator: &simulator, end: &end };
        let outcome = self.show(&watch, &operator_token);
        stop.notify_one();
        serving.join().map_err(|_| CliError::Failed("the server ended abnormally".into()))??;
        outcome
    }

    fn show(&self, watch: &Watch<'_>, operator_token: &str) -> Result<(), CliError> {
        say!("dripfeed demo: {} rows through three rate-limited APIs\n", self.rows);
        let begun = Instant::now();
        let id = watch.upload(People::new(self.rows))?;
        let Some(ended) = watch.until_finished(&id)? else { return Ok(()) };
        summary(&ended, &watch.simulator.stats(), watch.pace, begun.elapsed().as_secs_f64());
        self.show_way_on(watch.address, &id, &watch.key, operator_token);
        if !self.exit {
            say!("\nCtrl-C ends it.");
            while !watch.end.wait(std::time::Duration::from_secs(3600)) {}
        }
        Ok(())
    }

    fn show_way_on(&self, address: SocketAddr, id: &str, key: &str, operator_token: &str) {
        say!("\nThe page       http://{address}/");
        say!("client key     {key}");
        say!("operator token {operator_token}");
        say!("\nTry:");
        for path in [
            format!("/v2/batches/{id}"),
            format!("/v2/batches/{id}/rows?status=failed&limit=3"),
            format!("/v2/batches/{id}/rows/1"),
        ] {
            say!("  curl -s -H 'Authorization: Bearer {key}' 'http://{address}{path}'");
        }
        say!("  curl -s -H 'Authorization: Bearer {operator_token}' http://{address}/ops/v1/dependencies");
    }
}

fn summary(batch: &serde_json::Value, stats: &Stats, pace: Pace, seconds: f64) {
    let count = |name: &str| batch["counts"][name].as_u64().unwrap_or(0);
    let rows_per_second = count("total") as f64 / seconds;
    say!("\n{} rows in {seconds:.1} s ({rows_per_second:.0} a second)", count("total"));
    say!("  completed          {}", count("completed"));
    say!("  failed             {}  (the sample has rows that the downstream refuses)", count("failed"));
    for (step, calls) in [
        ("address-links", stats.calls.address_links),
        ("get-addresses", stats.calls.get_addresses),
        ("invite-create", stats.calls.invite_create),
    ] {
        say!("  {step:<18} {calls} calls");
    }
    say!(
        "  busiest second     {} calls; allowed are {} and bursts of {}",
        stats.busiest_second,
        pace.calls(),
        2 * settings::BURST
    );
    say!("  refused as too fast {}", stats.refused);
    say!("  invites created    {}", stats.invites);
    say!("  created twice      {}", stats.duplicate_invites);
}

/// The first Ctrl-C ends the demo in order, also while it runs.
fn listen_for_ctrl_c(end: &Closing) -> Result<(), CliError> {
    let end = end.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            end.close();
        }
    })?;
    Ok(())
}
