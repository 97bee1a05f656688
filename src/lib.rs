//! dripfeed (the architecture is written here as it stands)

pub mod access;
pub mod appliance;
pub mod bell;
pub mod cli;
pub mod clock;
pub mod closing;
pub mod config;
pub mod crypto;
pub mod dispatch;
pub mod downstream;
pub mod extract;
pub mod http;
pub mod intake;
pub mod keys;
pub mod model;
pub mod objects;
pub mod simulator;
pub mod store;
pub mod template;
pub mod upload;
pub mod work;
