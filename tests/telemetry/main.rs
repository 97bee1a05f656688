//! What a server says of itself while it works: log lines that can be relied on, and traces.

#[path = "../support/mod.rs"]
mod support;

mod events;
mod logs;
mod private;
mod traces;
