//! Who runs the appliance, by name: added, given another role, removed.

use super::{Actor, Env};
use crate::{
    access::{LONGEST_NAME, ROOT, is_name, key_hash, new_operator_token},
    model::Role,
    store::{StoreError, audit, operators},
};

/// Why operators stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum OperatorFault {
    /// Not a name, or the one that the configured token stands for.
    #[error(
        "an operator's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`; `{ROOT}` is the one that the configured \
         token stands for"
    )]
    Name,
    /// There is one of that name.
    #[error("there is an operator of that name already")]
    NameTaken,
    /// There is none.
    #[error("there is no operator of that name")]
    Missing,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds an operator; returns the token, which is told this once. Blocks.
pub fn add(env: Env<'_>, actor: &Actor, name: &str, role: Role) -> Result<String, OperatorFault> {
    if !is_name(name) || name == ROOT {
        return Err(OperatorFault::Name);
    }
    let token = new_operator_token();
    let (of, hash) = (name.to_owned(), key_hash(&token));
    let deed = actor.deed("operator.add", name, Some(role.as_str().to_owned()));
    let added = env.store.write(move |tx| {
        let added = operators::add(tx, &of, hash, role)?;
        if added {
            audit::note(tx, &deed)?;
        }
        Ok(added)
    })?;
    if added { Ok(token) } else { Err(OperatorFault::NameTaken) }
}

/// Gives an operator another role, from the next request on; whether it is another. Blocks.
pub fn set_role(env: Env<'_>, actor: &Actor, name: &str, role: Role) -> Result<bool, OperatorFault> {
    let (of, deed) = (name.to_owned(), actor.deed("operator.role", name, Some(role.as_str().to_owned())));
    let is_news = env.store.write(move |tx| {
        let Some(before) = operators::by_name(tx.connection, &of)? else { return Ok(None) };
        let is_news = before.role != role;
        if is_news {
            operators::set_role(tx, &of, role)?;
            audit::note(tx, &deed)?;
        }
        Ok(Some(is_news))
    })?;
    is_news.ok_or(OperatorFault::Missing)
}

/// Removes an operator: the token stops working at once, also for what is under way. Blocks.
pub fn remove(env: Env<'_>, actor: &Actor, name: &str) -> Result<(), OperatorFault> {
    let (of, deed) = (name.to_owned(), actor.deed("operator.remove", name, None));
    let removed = env.store.write(move |tx| {
        let removed = operators::remove(tx, &of)?;
        if removed {
            audit::note(tx, &deed)?;
        }
        Ok(removed)
    })?;
    if removed { Ok(()) } else { Err(OperatorFault::Missing) }
}
