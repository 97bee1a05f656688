//! Many blobs at once: a file's rows.
//!
//! XAES-256-GCM derives an AES-256-GCM key from the first half of each nonce, which takes longer than to seal a row
//! under it. So here the first half is drawn once, and its key kept; the second half begins at random and counts.
//! The blobs are XAES-256-GCM like all others, and are opened as such.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut, KeyInit},
    aes::{Aes256, Block, cipher::BlockCipherEncrypt},
};
use zeroize::Zeroizing;

use super::{
    cipher::{Nonce, append_sealed},
    mac::MacKey,
    place::Place,
    random::random,
};

const HALF: usize = 12;

/// Seals blobs one after the other. Make one for each run of rows; it is not shared.
pub struct BulkSealer {
    cipher: Aes256Gcm,
    next: Nonce,
}

impl BulkSealer {
    pub(super) fn new(key: &MacKey) -> Self {
        let next: Nonce = random();
        let mut first_half = [0; HALF];
        first_half.copy_from_slice(&next[..HALF]);
        Self { cipher: derive(key, first_half), next }
    }

    /// Seals `plaintext` for its place, behind what `out` already holds.
    pub fn seal_into(&mut self, place: Place, plaintext: &[u8], out: &mut Vec<u8>) {
        let nonce = self.take_nonce();
        let mut second_half = [0; HALF];
        second_half.copy_from_slice(&nonce[HALF..]);
        append_sealed(out, &nonce, plaintext, |buffer| {
            self.cipher.encrypt_inout_detached(&second_half.into(), &place.to_bytes(), buffer)
        });
    }

    fn take_nonce(&mut self) -> Nonce {
        let nonce = self.next;
        // As one big number, least significant byte last.
        for byte in self.next[HALF..].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        nonce
    }
}

/// The key that XAES-256-GCM uses for nonces that begin like this: two blocks of CMAC in counter mode (NIST SP
/// 800-108), each over one full block, for which CMAC is AES over the block and the first subkey (SP 800-38B).
fn derive(key: &MacKey, first_half: [u8; HALF]) -> Aes256Gcm {
    let aes = Aes256::new(key.as_bytes().into());
    let subkey = double(encrypt(&aes, 0));
    let mut derived = Zeroizing::new([0; 32]);
    for (counter, half) in [1, 2].into_iter().zip(derived.chunks_exact_mut(16)) {
        let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        block[16 - HALF..].copy_from_slice(&first_half);
        half.copy_from_slice(&encrypt(&aes, u128::from_be_bytes(block) ^ subkey).to_be_bytes());
    }
    Aes256Gcm::new((&*derived).into())
}

fn encrypt(aes: &Aes256, block: u128) -> u128 {
    let mut block = Block::from(block.to_be_bytes());
    aes.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

/// Times x in GF(2^128), as CMAC orders its bits.
fn double(block: u128) -> u128 {
    (block << 1) ^ ((block >> 127) * 0x87)
}

#[cfg(test)]
mod tests {
    use super::super::{data_key::DataKey, place::Purpose};
    use super::*;
    use crate::model::BatchId;

    #[test]
    fn what_it_seals_opens_like_any_other_blob() {
        // Several sealers, because a carry in the derivation shows under every other key only.
        for _ in 0..16 {
            let (key, batch) = (DataKey::generate(), BatchId::random());
            let mut sealer = key.bulk();
            let (mut buffer, mut borders) = (Vec::new(), vec![0]);
            for row in 1..=300 {
                sealer.seal_into(Place::row(Purpose::Row, batch, row), format!("row {row}").as_bytes(), &mut buffer);
                borders.push(buffer.len());
            }
            for (row, border) in (1..).zip(borders.windows(2)) {
                let blob = &buffer[border[0]..border[1]];
                let opened = key.open(Place::row(Purpose::Row, batch, row), blob).expect("in its place");
                assert_eq!(opened.as_slice(), format!("row {row}").as_bytes());
                assert!(key.open(Place::row(Purpose::Row, batch, row + 1), blob).is_err());
            }
        }
    }

    #[test]
    fn nonces_count_over_every_border_and_no_two_sealers_begin_alike() {
        let mut sealer = DataKey::generate().bulk();
        sealer.next[HALF..].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff]);
        let (before, after) = (sealer.take_nonce(), sealer.take_nonce());
        assert_eq!(before[..HALF], after[..HALF]);
        assert_eq!(after[HALF..], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        let key = DataKey::generate();
        assert_ne!(key.bulk().next[..HALF], key.bulk().next[..HALF]);
    }
}
