//! The database's one writer.

use prometheus::{Histogram, IntCounter, IntGauge, Result};

use super::families::{Families, QUICK};
use crate::store::{Meter, Transaction};

/// Its meter.
pub struct Writes {
    waiting: IntGauge,
    operations: Histogram,
    took: Histogram,
    commit_took: Histogram,
    committed: IntCounter,
    rolled_back: IntCounter,
}

impl Writes {
    pub(super) fn new(families: &Families<'_>) -> Result<Self> {
        let ended = families.counters(
            "dripfeed_store_transactions_total",
            "Write transactions that ended, by outcome.",
            &["outcome"],
        )?;
        Ok(Self {
            waiting: families.counting_gauge(
                "dripfeed_store_queued_operations",
                "Operations that wait for the database's one writer, or for its commit, now.",
            )?,
            operations: families.histogram(
                "dripfeed_store_transaction_operations",
                "Operations that shared a write transaction.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0],
            )?,
            took: families.histogram(
                "dripfeed_store_transaction_duration_seconds",
                "Time of a write transaction, with its commit.",
                QUICK,
            )?,
            commit_took: families.histogram(
                "dripfeed_store_commit_duration_seconds",
                "Time of a commit: until the transaction is on disk.",
                QUICK,
            )?,
            committed: ended.with_label_values(&["committed"]),
            rolled_back: ended.with_label_values(&["rolled_back"]),
        })
    }
}

impl Meter for Writes {
    fn asked(&self) {
        self.waiting.inc();
    }

    fn answered(&self) {
        self.waiting.dec();
    }

    fn ended(&self, transaction: Transaction) {
        match transaction.commit_took {
            Some(took) => {
                self.committed.inc();
                self.commit_took.observe(took.as_secs_f64());
            }
            None => self.rolled_back.inc(),
        }
        self.operations.observe(transaction.operations as f64);
        self.took.observe(transaction.took.as_secs_f64());
    }
}
