//! `dripfeed simulator`: the downstream of demos and tests, as a command.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::error::CliError;
use crate::simulator::{Simulator, SimulatorOptions};

/// Play the downstream: three calls, a rate limit, latency and faults.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  dripfeed simulator --rate 50 --latency 20ms --errors 1%\n  curl http://127.0.0.1:9100/stats"
)]
pub struct SimulatorCommand {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Calls accepted in any one second; more are answered 429 [default: any number]
    #[arg(long)]
    rate: Option<u32>,
    /// How long an answer takes
    #[arg(long, default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// The share of calls that are answered 500, like 1%
    #[arg(long, default_value = "0%", value_parser = share)]
    errors: f64,
    /// The share of calls that are never answered, like 0.1%
    #[arg(long, default_value = "0%", value_parser = share)]
    hang: f64,
    /// Which calls those are: the same seed, the same calls
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SimulatorCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let simulator = Simulator::start(SimulatorOptions {
            listen: self.listen,
            rate: self.rate,
            latency: self.latency,
            errors: self.errors,
            hang: self.hang,
            seed: self.seed,
        })?;
        println!("simulating on http://{}", simulator.address());
        simulator.wait();
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("a share is written like 1% or 0.1%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!(share("0.1%"), Ok(0.001));
        assert_eq!(share("100%"), Ok(1.0));
        for wrong in ["1", "101%", "-1%", "NaN%", "%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
