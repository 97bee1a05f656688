//! What is counted of the writer. Whoever counts implements [`Meter`]: this room knows no registry.

use std::time::Duration;

/// Told of each operation and each transaction: it adds to a counter, and no more.
pub trait Meter: Send + Sync {
    /// Somebody waits for an operation: for its turn, or for its commit.
    fn asked(&self);
    /// They have their answer.
    fn answered(&self);
    /// A transaction of the writer has ended.
    fn ended(&self, transaction: Transaction);
}

/// A transaction that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Transaction {
    /// Operations that shared it.
    pub operations: usize,
    /// From its beginning on.
    pub took: Duration,
    /// The commit's part of that; `None`: it was rolled back.
    pub commit_took: Option<Duration>,
}

/// Counts nothing.
impl Meter for () {
    fn asked(&self) {}
    fn answered(&self) {}
    fn ended(&self, _: Transaction) {}
}
