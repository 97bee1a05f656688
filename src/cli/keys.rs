//! `dripfeed keys`: make and list encryption keys.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::{error::CliError, output};
use crate::{config::Config, crypto::KeyRing, keys};

/// The subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Print a new key as a line of a key file
    Generate {
        /// Its id; no two keys of a file have the same
        #[arg(long, default_value = "k1")]
        id: String,
    },
    /// List the ids of the configured keys; the first one seals
    List {
        #[arg(long)]
        json: bool,
    },
}

impl KeysCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::Generate { id } => {
                let line = KeyRing::generate_line(&id)
                    .map_err(|_| CliError::Unusable("a key's id is letters, digits, `-`, `_` or `.`".into()))?;
                println!("{}", line.as_str());
                Ok(())
            }
            Self::List { json } => {
                let ring = keys::read_ring(&Config::load(config)?)?;
                if json {
                    return output::json(&json!({ "keys": ring.ids().collect::<Vec<_>>() }));
                }
                for (at, id) in ring.ids().enumerate() {
                    println!("{id}{}", if at == 0 { "  (seals)" } else { "" });
                }
                Ok(())
            }
        }
    }
}
