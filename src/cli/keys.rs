//! `dripfeed keys`: make and list encryption keys, and bring everything under a new one.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::{actor::actor, error::CliError, open::open_store, output, serve};
use crate::{
    config::Config,
    crypto::KeyRing,
    keys::{self, rotation},
    operations,
    store::{Store, stuck},
};

const GENERATE_EXAMPLES: &str = "\
Examples:
  dripfeed keys generate --id k2                                          one line, for the key file
  (umask 077; dripfeed keys generate --id k2; cat dripfeed.keys) > keys.new && mv keys.new dripfeed.keys";

const ROTATE_EXAMPLES: &str = "\
How to rotate:
  1. put a new key first in the key file (`dripfeed keys generate --id k2`); the old ones stay below it
  2. let a running server take it: kill -HUP its process
  3. dripfeed keys rotate
  4. remove the lines of the keys that are not needed any more, and send SIGHUP again

Keep the old keys with the backups that were taken before: those need them.";

/// The subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Print a new key as a line of a key file
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate {
        /// Its id; no two keys of a file have the same
        #[arg(long, default_value = "k1")]
        id: String,
        /// Print id and line as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the ids of the configured keys; the first one seals
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Wrap every batch's data key, and every secret, under the first key
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        /// Print what was done as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Generated<'a> {
    id: &'a str,
    line: &'a str,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Serialize)]
struct Key {
    id: String,
    /// Whether it is the one that seals.
    seals: bool,
}

impl KeysCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::Generate { id, json } => {
                let line = KeyRing::generate_line(&id)
                    .map_err(|_| CliError::Unusable("a key's id is letters, digits, `-`, `_` or `.`".into()))?;
                if json {
                    return output::json(&Generated { id: &id, line: line.as_str() });
                }
                say!("{}", line.as_str());
                Ok(())
            }
            Self::List { json } => {
                let ring = keys::read_ring(&Config::load(config)?)?;
                let keys = ring.ids().enumerate().map(|(at, id)| Key { id: id.to_owned(), seals: at == 0 }).collect();
                let keys = Keys { keys };
                if json {
                    return output::json(&keys);
                }
                for key in keys.keys {
                    say!("{}{}", key.id, if key.seals { "  (seals)" } else { "" });
                }
                Ok(())
            }
            Self::Rotate { json } => rotate(config, json),
        }
    }
}

fn rotate(config: Option<&Path>, json: bool) -> Result<(), CliError> {
    let (config, store) = open_store(config)?;
    let ring = keys::read_ring(&config)?;
    keys::unlock(&store, &ring)?;
    server_must_know(&config, &store, ring.first_id())?;
    let rotated = rotation::rotate(&store, &ring)?;
    operations::note(&store, actor().deed("keys.rotate", rotated.key.as_str(), None))?;
    if json {
        return output::json(&rotated);
    }
    say!(
        "everything is under `{}`: wrapped {} batches, {} secrets and {} workflows anew",
        rotated.key,
        rotated.batches,
        rotated.secrets,
        rotated.workflows
    );
    if rotated.not_needed.is_empty() {
        say!("every key of the file is needed");
    } else {
        say!("not needed any more: {}", rotated.not_needed.join(", "));
        say!("remove their lines from the key file, and keep them with the backups that were taken before");
    }
    Ok(())
}

/// A server that goes on sealing under an old key would lose what it seals as soon as that key is gone, and one that has
/// not got the new key could open nothing any more.
fn server_must_know(config: &Config, store: &Store, key: &str) -> Result<(), CliError> {
    if serve::lock(&config.storage.data_dir).is_ok() {
        return Ok(());
    }
    if store.read(stuck::noted_key)?.as_deref() == Some(key) {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "the running server does not seal under `{key}` yet: send it SIGHUP (kill -HUP), so that it takes the changed key \
         file, and run this again; nothing was changed"
    )))
}
