//! The downstream against real HTTP servers on loopback: what answers and the lack of them mean, and what limits hold.

mod answers;
mod fixture;
mod gates;
mod limits;
mod rooms;
#[path = "../support/server.rs"]
mod server;
