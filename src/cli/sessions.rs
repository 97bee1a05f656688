//! `dripfeed sessions`: who is signed in on the page, and the end of that.

use std::path::Path;

use clap::Subcommand;

use super::{actor::actor, error::CliError, open::open_store, output};
use crate::{
    clock::Clock,
    operations::{Env, sessions, views::session::SessionList},
    store::pages::Most,
};

/// Sessions that are listed.
const LISTED: u32 = 10_000;

/// The subcommands of `sessions`.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List who is signed in on the page, newest first
    List {
        #[arg(long)]
        json: bool,
    },
    /// End sessions, and within a second what came with them and is under way
    #[command(group = clap::ArgGroup::new("which").required(true))]
    End {
        /// One, as `list` numbers it
        #[arg(value_name = "ID", group = "which")]
        id: Option<i64>,
        /// All of somebody: an operator's name, or `client:NAME`
        #[arg(long, value_name = "WHO", group = "which")]
        of: Option<String>,
        /// Everybody's
        #[arg(long, group = "which")]
        all: bool,
    },
}

impl SessionsCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::List { json } => list(config, json),
            Self::End { id: Some(id), .. } => end_one(config, id),
            Self::End { of, .. } => end_all(config, of),
        }
    }
}

fn list(config: Option<&Path>, json: bool) -> Result<(), CliError> {
    let (config, store) = open_store(config)?;
    let list =
        SessionList::read(&store, &config.access, Clock::machine().now(), i64::MAX, Most::of_any_length(LISTED))?;
    if json {
        return output::json(&list);
    }
    let rows = list
        .sessions
        .into_iter()
        .map(|it| vec![it.id, it.who, it.origin, it.opened_at.to_string(), it.expires_at.to_string()]);
    output::table(&["ID", "WHO", "FROM", "OPENED", "ENDS"], &rows.collect::<Vec<_>>());
    Ok(())
}

fn end_one(config: Option<&Path>, id: i64) -> Result<(), CliError> {
    let (config, store) = open_store(config)?;
    let whose = sessions::end(Env::of_store(&store, &config), &actor(), id)?;
    let whose = whose
        .ok_or_else(|| CliError::Failed(format!("there is no session {id}; `dripfeed sessions list` shows all")))?;
    say!("session {id} of {whose} has ended");
    Ok(())
}

fn end_all(config: Option<&Path>, of: Option<String>) -> Result<(), CliError> {
    let (config, store) = open_store(config)?;
    let ended = sessions::end_all(Env::of_store(&store, &config), &actor(), of.clone())?;
    let ended = ended.ok_or_else(|| {
        let who = of.unwrap_or_default();
        CliError::Failed(format!(
            "there is no operator `{who}`, nor a client that is named so (`client:NAME`); no session was ended: \
             `dripfeed sessions list` shows who is signed in"
        ))
    })?;
    say!("{ended} sessions have ended");
    Ok(())
}
