//! `dripfeed operator`: who runs the appliance, by name, so that the audit can say who.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::{deed::deed, error::CliError, open::open_store, output};
use crate::{
    access::{self, LONGEST_NAME, ROOT, is_name},
    store::{
        Store, audit,
        operators::{self, NamedOperator},
    },
};

/// The subcommands of `operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Add an operator; the token is printed once, and only its hash is kept
    Add {
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// List operators; the configured token stands for one more, `root`
    List {
        #[arg(long)]
        json: bool,
    },
    /// Remove an operator: the token stops working at once, what they did stays in the audit
    Remove { name: String },
}

/// An operator's token, told this once.
#[derive(Serialize)]
struct NewToken<'a> {
    name: &'a str,
    token: &'a str,
}

#[derive(Serialize)]
struct OperatorList {
    operators: Vec<NamedOperator>,
}

impl OperatorCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (_, store) = open_store(config)?;
        match self {
            Self::Add { name, json } => add(&store, &name, json),
            Self::List { json } => list(&store, json),
            Self::Remove { name } => remove(&store, name),
        }
    }
}

fn add(store: &Store, name: &str, json: bool) -> Result<(), CliError> {
    if !is_name(name) || name == ROOT {
        return Err(CliError::Unusable(format!(
            "an operator's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`; `{ROOT}` is the one that the \
             configured token stands for"
        )));
    }
    let token = access::new_operator_token();
    let (of, hash) = (name.to_owned(), access::key_hash(&token));
    let added = store.write(move |tx| {
        let added = operators::add(tx, &of, hash)?;
        if added {
            audit::note(tx, &deed("operator.add", of, None))?;
        }
        Ok(added)
    })?;
    if !added {
        let known = format!("there is an operator `{name}` already; `dripfeed operator list` shows all");
        return Err(CliError::Failed(known));
    }
    if json {
        return output::json(&NewToken { name, token: &token });
    }
    println!("{name} was added. The token, shown this once:\n\n  {token}\n");
    Ok(())
}

fn list(store: &Store, json: bool) -> Result<(), CliError> {
    let operators = store.read(operators::list)?;
    if json {
        return output::json(&OperatorList { operators });
    }
    let rows: Vec<_> = operators.into_iter().map(|it| vec![it.name, it.created_at.to_string()]).collect();
    output::table(&["NAME", "CREATED"], &rows);
    Ok(())
}

fn remove(store: &Store, name: String) -> Result<(), CliError> {
    let of = name.clone();
    let removed = store.write(move |tx| {
        let removed = operators::remove(tx, &of)?;
        if removed {
            audit::note(tx, &deed("operator.remove", of, None))?;
        }
        Ok(removed)
    })?;
    if removed {
        return Ok(());
    }
    Err(CliError::Failed(format!("there is no operator `{name}`; `dripfeed operator list` shows all")))
}
