//! The demo's own configuration: generated keys, free ports, and limits that let any number of rows end soon.

use std::{net::SocketAddr, path::Path};

use rand::{RngExt, distr::Alphanumeric};

use crate::{cli::CliError, config::Config, crypto::KeyRing};

/// The time that the rows should take, as far as the machine can.
const SECONDS: u32 = 20;
/// No demo is slower than this, in rows a second: with few rows one wants to see them move.
const SLOWEST: u32 = 25;

/// Calls that may leave at once after a quiet time, of each of the two dependencies.
pub const BURST: u32 = 5;

/// How fast the demo goes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Calls a second of `address-links` and `get-addresses` together.
    pub addresses: u32,
    /// Calls a second of `invite-create`.
    pub invites: u32,
}

impl Pace {
    /// A pace at which so many rows end in about [`SECONDS`].
    pub fn for_rows(rows: u32) -> Self {
        let rows_per_second = (rows / SECONDS).max(SLOWEST);
        Self { addresses: 2 * rows_per_second, invites: rows_per_second }
    }

    /// Calls a second in all.
    pub fn calls(self) -> u32 {
        self.addresses + self.invites
    }
}

/// The configuration of a demo in `data_dir` against the simulator at `downstream`, and the operator's token.
pub fn config(data_dir: &Path, downstream: SocketAddr, pace: Pace) -> Result<(Config, String), CliError> {
    let token: String = rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect();
    let keys = data_dir.join("keys");
    if !keys.exists() {
        let line = KeyRing::generate_line("demo").map_err(|error| CliError::Failed(error.to_string()))?;
        write_private(&keys, &line)?;
    }
    let Pace { addresses, invites } = pace;
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
[storage]
data_dir = {data_dir}
[encryption]
key_file = {keys}
[access]
operator_token = "{token}"
[log]
filter = "warn"
[dispatch]
every = "1s"
min_interval = "0s"
rows_per_client_per_run = 1_000_000
[dependencies.addresses]
base_url = "http://{downstream}"
rate_per_second = {addresses}
burst = {BURST}
concurrency = 32
[dependencies.invites]
base_url = "http://{downstream}"
rate_per_second = {invites}
burst = {BURST}
concurrency = 32
"#,
        data_dir = quoted(data_dir),
        keys = quoted(&keys),
    );
    let config = Config::from_toml(&text, &|_| None)?;
    Ok((config, token))
}

fn quoted(path: &Path) -> String {
    toml::Value::from(path.display().to_string()).to_string()
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")
}
