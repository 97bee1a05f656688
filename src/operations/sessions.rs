//! People sign in on the page, and out; sessions are ended by others.

use std::time::Duration;

use super::{Actor, Env, callers::CLIENT};
use crate::{
    access::{KeyHash, ROOT},
    model::Role,
    store::{
        Connection, StoreError, audit, clients,
        operators::{self, MARK_LENGTH},
        sessions::{self, Opener, Session},
    },
};

/// Whoever signs in and out all the time from one address is noted so often.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// What somebody signs in on.
const PAGE: &str = "page";

/// Opens a session of this hash. `who` is whose it is, whichever of their keys they came in with. Blocks.
pub fn open(env: Env<'_>, actor: &Actor, who: String, hash: KeyHash, session: Session) -> Result<(), StoreError> {
    let deed = actor.deed("session.open", PAGE, None);
    let opener = Opener { who, origin: actor.origin.clone() };
    env.store.write(move |tx| {
        sessions::open(tx, hash, &session, &opener)?;
        audit::note_once_in(tx, &deed, NOTED_EVERY)
    })
}

/// Somebody whom a provider knows.
pub struct Person {
    /// What they are called here: the first name, or the second where somebody else has the first.
    pub names: [String; 2],
    /// What they may.
    pub role: Role,
    /// Who they are to which provider, for the audit.
    pub why: String,
}

/// The same for a person who is known by a provider, and becomes an operator by it. Blocks.
pub fn open_for(
    env: Env<'_>,
    origin: String,
    person: Person,
    hash: KeyHash,
    session: Session,
) -> Result<(), StoreError> {
    let Person { names, role, why } = person;
    env.store.write(move |tx| {
        let who = operators::let_in(tx, &names, session.key_hash, role)?;
        sessions::open(tx, hash, &session, &Opener { who: who.clone(), origin: origin.clone() })?;
        let actor = Actor { who, origin, is_client: false };
        audit::note_once_in(tx, &actor.deed("session.open", PAGE, Some(why)), NOTED_EVERY)
    })
}

/// Ends one's own session; it is nobody's where its key is good no more. Blocks.
pub fn close(env: Env<'_>, actor: Option<Actor>, hash: KeyHash) -> Result<(), StoreError> {
    let deed = actor.map(|actor| actor.deed("session.end", PAGE, None));
    env.store.write(move |tx| {
        sessions::end(tx, hash)?;
        deed.map_or(Ok(()), |deed| audit::note_once_in(tx, &deed, NOTED_EVERY))
    })
}

/// Ends the session of this number; says whose it was, if there is one. Blocks.
pub fn end(env: Env<'_>, actor: &Actor, number: i64) -> Result<Option<String>, StoreError> {
    let actor = actor.clone();
    env.store.write(move |tx| {
        let whose = sessions::end_numbered(tx, number)?;
        if let Some(whose) = &whose {
            audit::note(tx, &actor.deed("session.end", format!("session {number} of {whose}"), None))?;
        }
        Ok(whose)
    })
}

/// Ends all sessions, of somebody or of everybody; says how many, or `None` where nobody is called so. Blocks.
pub fn end_all(env: Env<'_>, actor: &Actor, of: Option<String>) -> Result<Option<usize>, StoreError> {
    let actor = actor.clone();
    env.store.write(move |tx| {
        let ended = sessions::end_all(tx, of.as_deref())?;
        if ended == 0 {
            let is_known = of.map_or(Ok(true), |who| is_somebody(tx.connection, &who))?;
            return Ok(is_known.then_some(0));
        }
        let whose = of.map_or_else(|| "all sessions".to_owned(), |who| format!("sessions of {who}"));
        audit::note(tx, &actor.deed("session.end", whose, Some(format!("{ended} sessions"))))?;
        Ok(Some(ended))
    })
}

/// Whether an operator or a client is called so. One who was removed has no session left.
fn is_somebody(connection: &Connection, who: &str) -> Result<bool, StoreError> {
    if let Some(client) = who.strip_prefix(CLIENT) {
        return Ok(clients::by_name(connection, client)?.is_some());
    }
    Ok(who == ROOT || operators::list(connection)?.iter().any(|operator| operator.name == who))
}

/// Ends what people did by another provider than the one that is marked so, or by other settings of it. Blocks.
pub fn end_strangers(env: Env<'_>, mark: Option<[u8; MARK_LENGTH]>) -> Result<(), StoreError> {
    let ended = env.store.write(move |tx| operators::end_strangers(tx, mark))?;
    if ended > 0 {
        tracing::info!(event = "sign_in.ended", people = ended, "people of another provider are signed out");
    }
    Ok(())
}
