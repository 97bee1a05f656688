//! Requests that nobody would write by hand, against a real server. Whatever is sent, the answer is one of the
//! interface's, nothing is kept of what was refused, nothing private is told or logged, and the server goes on.

mod context;
mod damage;
mod early;
mod forms;
mod gzip;
mod headers;
mod server;
#[path = "../support/mod.rs"]
mod support;
