//! A zoo of vendors that behave as real ones do, and what has to hold towards each: asserted by what the vendor counted
//! and by what API and database say, never by what the code looks like.

mod answers;
mod apart;
mod clock;
mod edits;
mod end;
mod fair;
mod flood;
mod lack;
mod lock;
mod places;
mod random;
mod spent;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod token;
mod transport;
mod truth;
mod twice;
#[allow(dead_code, reason = "each part of the zoo uses what it needs of it")]
mod zoo;
