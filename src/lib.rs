//! dripfeed (the architecture is written here as it stands)

pub mod clock;
pub mod config;
pub mod crypto;
pub mod downstream;
pub mod intake;
pub mod model;
pub mod objects;
pub mod simulator;
pub mod store;
