//! Whoever runs a command, as the audit knows them.

use crate::{
    operations::Actor,
    store::audit::{LONGEST_REASON, is_reason},
};

/// Where deeds of commands come from, in place of an address.
const ORIGIN: &str = "command";

/// Who runs this command is told by the number of the system's user; names of users are looked up by whoever reads.
pub(super) fn actor() -> Actor {
    let who = format!("uid:{}", rustix::process::getuid().as_raw());
    Actor { who, origin: ORIGIN.to_owned(), is_client: false }
}

/// A reason that is given on the command line.
pub(super) fn reason(text: &str) -> Result<String, String> {
    if is_reason(text) { Ok(text.to_owned()) } else { Err(format!("it has at most {LONGEST_REASON} characters")) }
}
