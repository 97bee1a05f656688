//! What an operator sees from outside: logs, traces, metrics, alerts. Ids, counts and times; never a value of a row.

pub mod alerts;
pub mod log;
pub mod metrics;
pub mod traces;
