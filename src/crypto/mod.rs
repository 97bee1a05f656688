//! Everything that turns private bytes into bytes that may lie on a disk. Knows bytes, keys and the places that
//! sealed bytes belong to; does not know what a cell, a file or a database is.
//!
//! ```text
//! KeyRing   (the operator's keys, from a file)      wraps data keys and named secrets
//!   └─ DataKey   (random, one a batch)              only ever the key of an HMAC; from it come
//!        ├─ the key that seals rows, saved values, errors and contexts    XAES-256-GCM
//!        └─ a key for each sealed stream, by its random salt              AES-256-GCM, STREAM
//! ```
//!
//! To destroy a batch for good it is enough to delete its wrapped data key.
//!
//! # What is sealed opens in its own place only
//! Each seal authenticates a [`Place`] beside the bytes: purpose, batch and row. A blob that was moved to another
//! row, another batch or another column does not open, nor does one that was cut, lengthened or changed.
//!
//! # Why a nonce never repeats under a key
//! AES-GCM breaks when two messages share a key and a nonce, and its own 96-bit nonce is too short to be drawn at
//! random for ever. So nothing here is sealed with it directly:
//!
//! - *Blobs* are sealed with XAES-256-GCM (C2SP): a random nonce of 192 bits, of which one half derives a fresh
//!   AES-256-GCM key for the message, and the other half is that cipher's nonce. A batch has at most 2^24 rows;
//!   with 2^8 seals for each (three steps' values, errors, tries, retries by hand) that is 2^32 messages under one
//!   data key, and the chance that any two of them share a nonce is below 2^(2*32 - 193) = 2^-129. A ring key that
//!   wraps 2^40 keys stays below 2^-113.
//! - *Runs of blobs* ([`BulkSealer`]) draw the 192 bits once and count on in the second half, so a run owns a random
//!   interval of nonces. Two runs would have to agree in the whole first half, 96 bits, and overlap in the other
//!   96: for 2^24 runs of up to 2^24 rows that is below 2^(2*24 - 1 + 25 - 192) = 2^-120.
//! - *Streams* draw a salt of 256 bits, from which, with the data key and the place, comes a key of their own. Under
//!   that key the nonce is a counter of chunks, which the one writer of the stream never takes twice.
//!
//! Nothing of this rests on what was sealed before. There is no counter to be stored, so none can be set back by a
//! rewritten row, a restored database or a copied folder.
//!
//! A running machine that is cloned is the one thing that could copy a nonce before it is used. No random bytes are
//! drawn ahead: they come from the kernel's generator (getrandom(2)) at the moment they are needed, and the kernel
//! reseeds itself when the hypervisor tells it that it was cloned (vmgenid, Linux 5.18). What a clone does share is a
//! run or a stream that was under way. A run seals rows of a stored file in their order, so both clones seal the same
//! bytes under the same nonce, which shows nothing; a stream that is fed by a connection goes on in one of them only,
//! because a connection does.
//!
//! # Secrets
//! Keys are zeroed when they are dropped, and their `Debug` shows nothing. Errors name ids and lines, never content. Those that
//! open all others are kept out of swap ([`Locked`]); and the process leaves no dump (`private::shut_memory`).

mod bulk;
mod cipher;
mod data_key;
mod locked;
mod mac;
mod place;
mod random;
mod ring;
mod stream;

pub use bulk::BulkSealer;
pub use cipher::{OpenError, SEALED_OVERHEAD};
pub use data_key::DataKey;
pub use locked::Locked;
pub use mac::{MacKey, Tag, hmac_sha256, same};
pub use place::{Place, Purpose};
pub use ring::{KeyRing, RingError, WrappedKey};
pub use stream::{CHUNK_BYTES, DamagedStream, OpeningReader, SealingWriter, is_damaged};

#[cfg(test)]
mod tests;
