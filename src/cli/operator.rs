//! `dripfeed operator`: who runs the appliance, by name, so that the audit can say who.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::{actor::actor, error::CliError, open::open_store, output};
use crate::{
    model::Role,
    operations::{
        Env,
        operators::{self, OperatorFault},
    },
    store::{
        Store,
        operators::{NamedOperator, list as all},
    },
};

/// The subcommands of `operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Add an operator; the token is printed once, and only its hash is kept
    Add {
        name: String,
        /// A viewer looks at what is masked; an operator does the daily work; an admin decides who gets in
        #[arg(long, default_value = "operator", value_name = "admin|operator|viewer")]
        role: Role,
        #[arg(long)]
        json: bool,
    },
    /// List operators; the configured token stands for one more, `root`
    List {
        #[arg(long)]
        json: bool,
    },
    /// Give an operator another role, from the next request on
    Role {
        name: String,
        #[arg(value_name = "admin|operator|viewer")]
        role: Role,
    },
    /// Remove an operator: the token stops working at once, also for what is under way; what they did stays in the audit
    Remove { name: String },
}

/// An operator's token, told this once.
#[derive(Serialize)]
struct NewToken<'a> {
    name: &'a str,
    role: Role,
    token: &'a str,
}

#[derive(Serialize)]
struct OperatorList {
    operators: Vec<NamedOperator>,
}

impl OperatorCommand {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (config, store) = open_store(config)?;
        let env = Env::of_store(&store, &config);
        match self {
            Self::Add { name, role, json } => add(env, &name, role, json),
            Self::Role { name, role } => set_role(env, &name, role),
            Self::List { json } => list(&store, json),
            Self::Remove { name } => operators::remove(env, &actor(), &name).map_err(|fault| told(fault, &name)),
        }
    }
}

fn told(fault: OperatorFault, name: &str) -> CliError {
    const ALL: &str = "`dripfeed operator list` shows all";
    match fault {
        OperatorFault::Name => CliError::Unusable(fault.to_string()),
        OperatorFault::NameTaken => CliError::Failed(format!("there is an operator `{name}` already; {ALL}")),
        OperatorFault::Missing => CliError::Failed(format!("there is no operator `{name}`; {ALL}")),
        OperatorFault::Store(error) => error.into(),
    }
}

fn add(env: Env<'_>, name: &str, role: Role, json: bool) -> Result<(), CliError> {
    let token = operators::add(env, &actor(), name, role).map_err(|fault| told(fault, name))?;
    if json {
        return output::json(&NewToken { name, role, token: &token });
    }
    say!("{name} was added, as {}. The token, shown this once:\n\n  {token}\n", role.as_str());
    Ok(())
}

fn set_role(env: Env<'_>, name: &str, role: Role) -> Result<(), CliError> {
    if !operators::set_role(env, &actor(), name, role).map_err(|fault| told(fault, name))? {
        say!("{name} is {} already; nothing was changed", role.as_str());
    }
    Ok(())
}

fn list(store: &Store, json: bool) -> Result<(), CliError> {
    let operators = store.read(all)?;
    if json {
        return output::json(&OperatorList { operators });
    }
    let rows: Vec<_> =
        operators.into_iter().map(|it| vec![it.name, it.role.as_str().to_owned(), it.created_at.to_string()]).collect();
    output::table(&["NAME", "ROLE", "CREATED"], &rows);
    Ok(())
}
