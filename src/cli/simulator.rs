//! `dripfeed simulator`: the downstream of demos and tests, as a command.

mod json;
mod script;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::error::CliError;
use crate::simulator::{Simulator, SimulatorOptions, script::Script};

/// What `--help` says of scripts, and how the command is used.
pub(super) const HELP: &str = r#"Examples:
  dripfeed simulator --rate 70 --latency 20ms --errors 1%
  dripfeed simulator --script vendor.toml
  curl http://127.0.0.1:9100/stats

A script is TOML: rules, of which the first that fits a call decides. Calls that none fits are answered as ever.

  [[answers]]                 # the first try of every third row is done, and answered too late
  path = "/invites"
  row = "every 3"
  try = 1
  latency = "30s"
  [[answers]]                 # then it says that it is there already
  path = "/invites"
  row = "every 3"
  status = 409
  [[answers]]                 # ten calls are turned away, and may come again at once
  path = "/addresses"
  call = "21-30"
  status = 429
  headers = { Retry-After = 0 }

Which calls (all that is said has to fit):
  path          "/address-links", "/addresses", "/invites"; or another one, which only rules answer
  contains      a text in query or body: "p7@mail.example"
  row           the rows of the path, by their first call: 3, "2-5", "10-", "every 3". The same Idempotency-Key, or
                without one the same query and body, is the same row
  try           the calls of a row to the path: 1 is its first
  call          the calls of the path, of all rows together
What happens:
  status        of the answer; the usual one where it is left out
  headers       { Retry-After = 120 }; "now-10s" and "now+10s" become an HTTP date; a list is several headers
  json, text    the body, in place of the usual one
  fault         "timeout" (no answer), "connection" (closed without one), "cut-off" (half of one, then closed)
  done          whether what was asked for is done (an invite created). Left out: yes, unless the status is no success
  latency       how long the answer takes, in place of --latency; what is asked for is done before
  closes_after  "1s": so long after the answer the connection is closed, without a word

A rule goes before --rate, --errors and --hang. `/stats` counts the calls that rules answer as well."#;

/// Play the downstream: three calls, a rate limit, latency and faults, or a vendor at its worst.
#[derive(Debug, Args)]
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
    /// Rules by which some calls are answered otherwise: see below
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

impl SimulatorCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let script = self.script.as_deref().map_or_else(|| Ok(Script::default()), script::read)?;
        let options = SimulatorOptions {
            listen: self.listen,
            rate: self.rate,
            latency: self.latency,
            errors: self.errors,
            hang: self.hang,
            seed: self.seed,
        };
        let simulator = Simulator::play(options, script)?;
        say!("simulating on http://{}", simulator.address());
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
