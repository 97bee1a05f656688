//! The table `dependencies`: what outlives a process about a dependency, and is shared with others.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::{Store, Tx, error::Result};
use crate::{
    downstream::{Closed, DependencyState, GateReason, GateState, Lease, LeaseAsk, Ledger, LedgerError, rate},
    model::Timestamp,
};

/// The store as the ledger of rates and gates.
pub struct StoredLedger(Store);

impl StoredLedger {
    /// Keeps them in this store.
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl Ledger for StoredLedger {
    fn lease(&self, ask: &LeaseAsk) -> std::result::Result<Lease, LedgerError> {
        let ask = ask.clone();
        self.0.write(move |tx| lease(tx, &ask)).map_err(ledger_error)
    }

    fn load(&self, dependency: &str) -> std::result::Result<Option<DependencyState>, LedgerError> {
        self.0.read(|connection| load(connection, dependency)).map_err(ledger_error)
    }

    fn save_gate(&self, dependency: &str, gate: &GateState) -> std::result::Result<(), LedgerError> {
        let (dependency, gate) = (dependency.to_owned(), *gate);
        self.0.write(move |tx| save_gate(tx, &dependency, &gate)).map_err(ledger_error)
    }
}

/// The rate that was set for a dependency, where one was.
pub fn rate_of(connection: &Connection, dependency: &str) -> Result<Option<f64>> {
    let mut statement = connection.prepare_cached("SELECT rate_per_second FROM dependencies WHERE name = ?")?;
    Ok(statement.query_row([dependency], |row| row.get(0)).optional()?.flatten())
}

/// Sets the rate that holds for a dependency, in requests a second; `None` goes back to the configured one.
pub fn set_rate(tx: &Tx<'_>, dependency: &str, per_second: Option<f64>) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT INTO dependencies (name, rate_per_second) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET rate_per_second = ?2",
        )?
        .execute(rusqlite::params![dependency, per_second])?;
    Ok(())
}

fn ledger_error(error: super::StoreError) -> LedgerError {
    LedgerError(Box::new(error))
}

fn lease(tx: &Tx<'_>, ask: &LeaseAsk) -> Result<Lease> {
    let mark: Option<(Option<String>, Option<i64>)> = tx
        .connection
        .prepare_cached("SELECT boot, next_slot_ns FROM dependencies WHERE name = ?")?
        .query_row([&ask.dependency], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mark = mark.and_then(|(boot, slot)| boot.zip(slot));
    let lease = rate::advance(mark.as_ref().map(|(boot, slot)| (boot.as_str(), *slot)), ask);
    tx.connection
        .prepare_cached(
            "INSERT INTO dependencies (name, boot, next_slot_ns) VALUES (:name, :boot, :end)
             ON CONFLICT (name) DO UPDATE SET boot = :boot, next_slot_ns = :end",
        )?
        .execute(named_params! { ":name": ask.dependency, ":boot": &*ask.boot, ":end": lease.end })?;
    Ok(lease)
}

fn load(connection: &Connection, dependency: &str) -> Result<Option<DependencyState>> {
    let mut statement = connection.prepare_cached(
        "SELECT rate_per_second, gate_until, gate_reason, gate_closings, gate_risked FROM dependencies WHERE name = ?",
    )?;
    let found = statement.query_row([dependency], |row| {
        let (until, reason): (Option<Timestamp>, Option<GateReason>) = (row.get(1)?, row.get(2)?);
        let closed = until.zip(reason).map(|(until, reason)| Closed { until, reason });
        Ok(DependencyState {
            rate_per_second: row.get(0)?,
            gate: GateState { closed, closings: row.get(3)?, risked: row.get(4)? },
        })
    });
    Ok(found.optional()?)
}

fn save_gate(tx: &Tx<'_>, dependency: &str, gate: &GateState) -> Result<()> {
    tx.connection
        .prepare_cached(
            "INSERT INTO dependencies (name, gate_until, gate_reason, gate_closings, gate_risked)
             VALUES (:name, :until, :reason, :closings, :risked)
             ON CONFLICT (name) DO UPDATE
             SET gate_until = :until, gate_reason = :reason, gate_closings = :closings,
                 gate_risked = :risked",
        )?
        .execute(named_params! {
            ":name": dependency,
            ":until": gate.closed.map(|closed| closed.until),
            ":reason": gate.closed.map(|closed| closed.reason.as_str()),
            ":closings": gate.closings,
            ":risked": gate.risked,
        })?;
    Ok(())
}
