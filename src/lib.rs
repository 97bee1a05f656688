//! partial
pub mod clock;
pub mod crypto;
pub mod model;
pub mod store;
