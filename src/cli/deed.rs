//! What a command writes into the audit: who ran it, and what it does.

use crate::store::audit::Deed;

/// Where deeds of commands come from, in place of an address.
const ORIGIN: &str = "command";

/// What this command is about to do, for the audit: to be noted in the transaction that does it. Who runs it is told by
/// the number of the system's user; names of users are looked up by whoever reads.
pub(super) fn deed(action: &'static str, target: impl Into<String>, why: Option<String>) -> Deed {
    let who = format!("uid:{}", rustix::process::getuid().as_raw());
    Deed { who, origin: ORIGIN.to_owned(), action, target: Some(target.into()), why }
}
