//! Attacks on the real binary, a file a kind, each bounded in count and time: who has a key, or none, tries to bring it down
//! or to get more than is theirs. `docs/security.md` says what came of each.

mod at_rest;
mod audit;
mod connections;
mod descriptors;
mod error_files;
mod half_sent;
mod heads;
mod in_memory;
mod kept;
mod keyless;
mod keys;
mod lists;
mod memory;
mod oidc;
mod old_folder;
mod ops_listen;
mod quotas;
mod raw;
mod restore;
mod revocation;
mod roles;
mod saved;
mod scale;
mod spreadsheets;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod tls;
mod trickles;
mod wide_rows;
