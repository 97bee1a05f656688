//! The chain of the audit: each entry holds the one before it by a hash, and the table `audit_chain` both ends.
//!
//! So an entry that was altered, taken out or put in is told by whoever reads the chain. The hash has no key, since commands
//! note what they do without one: who can write the database, and knows this file, can make the whole chain anew. Against
//! that helps a hash that is kept elsewhere: the log tells each one, and [`verify`] whether the chain still holds it.

use rusqlite::{Connection, named_params, params};
use sha2::{Digest, Sha256};

use super::{
    Tx,
    audit::{Deed, Entry},
    error::Result,
};
use crate::model::Timestamp;

/// What an entry is known by.
pub type EntryHash = [u8; 32];

/// Faults that are told; behind so many nobody reads on.
const FAULTS_TOLD: usize = 20;
/// What the hashes are of, so that no other hash of ours is one of them.
const DOMAIN: &[u8] = b"dripfeed audit entry";

/// Writes an entry behind the last one; its number and hash.
pub(super) fn append(tx: &Tx<'_>, deed: &Deed) -> Result<(i64, EntryHash)> {
    let mut statement = tx.connection.prepare_cached(
        // An entry that somebody else wrote stops nobody: it is told by whoever reads the chain.
        "SELECT max(last, coalesce((SELECT max(entry) FROM audit), 0)), last_hash FROM audit_chain",
    )?;
    let (last, before): (i64, EntryHash) = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let entry = Entry {
        entry: last + 1,
        at: tx.now,
        who: deed.who.clone(),
        action: deed.action.to_owned(),
        target: deed.target.clone(),
        origin: deed.origin.clone(),
        why: deed.why.clone(),
    };
    let hash = hash(&before, &entry);
    tx.connection
        .prepare_cached(
            "INSERT INTO audit (entry, at, who, action, target, origin, why, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            entry.entry,
            entry.at,
            entry.who,
            entry.action,
            entry.target,
            entry.origin,
            entry.why,
            hash
        ])?;
    tx.connection
        .prepare_cached("UPDATE audit_chain SET last = ?, last_hash = ?")?
        .execute(params![entry.entry, hash])?;
    Ok((entry.entry, hash))
}

/// Over the hash before it, and each part behind its length, so that no two entries are the same bytes.
fn hash(before: &EntryHash, entry: &Entry) -> EntryHash {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(before);
    hash.update(entry.entry.to_be_bytes());
    hash.update(entry.at.0.to_be_bytes());
    let (target, why) = (entry.target.as_deref(), entry.why.as_deref());
    for part in [Some(&entry.who[..]), Some(&entry.action), target, Some(&entry.origin), why] {
        // Nothing at all is not the empty text.
        hash.update([u8::from(part.is_some())]);
        let part = part.unwrap_or_default().as_bytes();
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// As the log tells it.
pub fn hex(hash: &EntryHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes the oldest entries, `limit` at most: all up to the last of those that is older than this. Returns how many.
pub fn prune(tx: &Tx<'_>, before: Timestamp, limit: u32) -> Result<usize> {
    // Up to it, also where the clock once ran ahead: a chain has no holes.
    tx.connection
        .prepare_cached(
            "UPDATE audit_chain SET (removed, removed_hash) = (
                 SELECT entry, hash FROM (SELECT entry, at, hash FROM audit ORDER BY entry LIMIT :limit)
                 WHERE at < :before ORDER BY entry DESC LIMIT 1)
             WHERE EXISTS (SELECT 1 FROM (SELECT at FROM audit ORDER BY entry LIMIT :limit) WHERE at < :before)",
        )?
        .execute(named_params! { ":before": before, ":limit": limit })?;
    let mut statement =
        tx.connection.prepare_cached("DELETE FROM audit WHERE entry <= (SELECT removed FROM audit_chain)")?;
    Ok(statement.execute([])?)
}

/// What a look at the whole chain came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Entries that are there.
    pub entries: u64,
    /// Entries up to this number went because they were old.
    pub removed: i64,
    /// The newest that was noted.
    pub last: i64,
    /// Its hash.
    pub hash: String,
    /// Whether a hash that somebody kept is one of the chain's; `null` where none was asked for.
    pub contains: Option<bool>,
    /// What does not fit, in sentences: the first twenty.
    pub faults: Vec<String>,
}

/// Reads the chain from end to end, and looks for this hash in it.
pub fn verify(connection: &Connection, wanted: Option<&str>) -> Result<Verified> {
    let (removed, removed_hash, last, last_hash): (i64, EntryHash, i64, EntryHash) =
        connection.query_row("SELECT removed, removed_hash, last, last_hash FROM audit_chain", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    let mut found = Verified {
        entries: 0,
        removed,
        last,
        hash: hex(&last_hash),
        contains: wanted.map(|wanted| wanted == hex(&removed_hash)),
        faults: Vec::new(),
    };
    let mut tell = |fault: String| {
        if found.faults.len() < FAULTS_TOLD {
            found.faults.push(fault);
        }
    };
    let (mut next, mut before) = (removed + 1, removed_hash);
    let mut statement = connection.prepare("SELECT * FROM audit ORDER BY entry")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (entry, noted): (_, EntryHash) = (Entry::from_row(row)?, row.get("hash")?);
        found.entries += 1;
        if wanted == Some(&hex(&noted)[..]) {
            found.contains = Some(true);
        }
        if entry.entry > last || entry.entry < next {
            tell(format!("entry {} was put in by somebody else", entry.entry));
            continue;
        }
        if entry.entry > next {
            tell(missing(next, entry.entry - 1));
        } else if hash(&before, &entry) != noted {
            tell(format!("entry {} was altered, or the one before it", entry.entry));
        }
        (next, before) = (entry.entry + 1, noted);
    }
    if next <= last {
        tell(missing(next, last));
    } else if before != last_hash {
        tell(format!("entry {last} is not the one that was noted last"));
    }
    Ok(found)
}

fn missing(first: i64, last: i64) -> String {
    match last - first {
        0 => format!("entry {first} is missing"),
        _ => format!("entries {first} to {last} are missing"),
    }
}
