//! What the API and the commands show, in one shape for both.

pub mod alert;
pub mod audit;
pub mod batch;
pub mod client;
pub mod deletion;
pub mod key;
pub mod paging;
pub mod row;
pub mod session;
pub mod stuck;
pub mod webhook;
