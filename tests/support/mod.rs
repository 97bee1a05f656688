//! What several tests need; each uses a part of it.
#![allow(dead_code)]

pub mod app;
pub mod proxy;
pub mod s3;
pub mod server;
