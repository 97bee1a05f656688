//! `dripfeed init`: a configuration and a key to begin with.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;

use super::error::CliError;
use crate::{config, crypto::KeyRing};

/// Write a commented dripfeed.toml and a key file (mode 0600). Never overwrites.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder to write to
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// Where the key file lies in the folder, as the configuration says.
const KEY_FILE: &str = "data/keys";

impl Init {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (config, keys) = (self.folder.join("dripfeed.toml"), self.folder.join(KEY_FILE));
        for path in [&config, &keys] {
            if path.exists() {
                return Err(CliError::Failed(format!("{} is there already; nothing was written", path.display())));
            }
        }
        std::fs::create_dir_all(self.folder.join("data"))?;
        let key = KeyRing::generate_line("k1").map_err(|error| CliError::Failed(error.to_string()))?;
        write_new(&keys, 0o600, &format!("{}\n", key.as_str()))?;
        write_new(&config, 0o644, config::TEMPLATE)?;
        println!("wrote {} and {}", config.display(), keys.display());
        println!("keep a copy of the key file elsewhere: without it nothing in the data folder can be read");
        Ok(())
    }
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), CliError> {
    let opened = File::options().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Failed(format!("{} is there already", path.display())),
        _ => CliError::Failed(format!("{}: {error}", path.display())),
    })?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
