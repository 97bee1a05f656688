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

/// Write a commented dripfeed.toml and a key file beside it (mode 0600). Never overwrites.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder to write to
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

impl Init {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (config, keys) = (self.folder.join("dripfeed.toml"), self.folder.join(config::KEY_FILE));
        for path in [&config, &keys] {
            if path.exists() {
                return Err(CliError::Failed(format!("{} is there already; nothing was written", path.display())));
            }
        }
        std::fs::create_dir_all(&self.folder)?;
        let key = KeyRing::generate_line("k1").map_err(|error| CliError::Failed(error.to_string()))?;
        write_new(&keys, &format!("{}\n", key.as_str()))?;
        write_new(&config, config::TEMPLATE)?;
        say!("wrote {} and {}", config.display(), keys.display());
        say!("keep a copy of the key file elsewhere: without it nothing of what is uploaded can be read");
        Ok(())
    }
}

/// For its owner alone: a configuration may hold tokens.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Failed(format!("{} is there already", path.display())),
        _ => CliError::Failed(format!("{}: {error}", path.display())),
    })?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
