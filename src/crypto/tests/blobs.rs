//! Blobs and wrapped keys.

use proptest::{collection::vec, prelude::*};

use super::{super::*, harm};
use crate::model::BatchId;

const PURPOSES: [Purpose; 8] = [
    Purpose::Row,
    Purpose::Progress,
    Purpose::Error,
    Purpose::Context,
    Purpose::File,
    Purpose::DataKey,
    Purpose::Secret,
    Purpose::Proof,
];

/// A place in one of two batches, so that two places often differ in one thing only.
fn place(batches: [BatchId; 2]) -> impl Strategy<Value = Place> {
    let row = prop_oneof![0..3_u32, any::<u32>()];
    (prop::sample::select(PURPOSES.to_vec()), prop::sample::select(batches.to_vec()), row)
        .prop_map(|(purpose, batch, row)| Place { purpose, batch, row })
}

fn two_places() -> impl Strategy<Value = (Place, Place)> {
    let batches = [BatchId::random(), BatchId::random()];
    (place(batches), place(batches))
}

fn ring() -> KeyRing {
    let lines = ["k1", "k2"].map(|id| KeyRing::generate_line(id).expect("a good id").to_string());
    KeyRing::parse(&lines.join("\n")).expect("our own lines")
}

proptest! {
    #[test]
    fn a_blob_opens_in_its_place_and_in_no_other((place, elsewhere) in two_places(), plaintext: Vec<u8>) {
        let key = DataKey::generate();
        let mut in_bulk = Vec::new();
        key.bulk().seal_into(place, &plaintext, &mut in_bulk);
        for sealed in [key.seal(place, &plaintext), in_bulk] {
            let opened = key.open(elsewhere, &sealed).map(|opened| opened.to_vec());
            let expected = if place == elsewhere { Ok(plaintext.clone()) } else { Err(OpenError::DoesNotOpen) };
            prop_assert_eq!(opened, expected);
        }
    }

    #[test]
    fn a_blob_that_was_harmed_does_not_open((place, _) in two_places(), plaintext: Vec<u8>, harm in harm()) {
        let key = DataKey::generate();
        let sealed = key.seal(place, &plaintext);
        let harmed = harm.done_to(&sealed);
        let is_whole = harmed == sealed;
        prop_assert_eq!(key.open(place, &harmed).is_ok(), is_whole);
    }

    #[test]
    fn bytes_that_were_never_sealed_do_not_open((place, _) in two_places(), bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(DataKey::generate().open(place, &bytes).is_err());
    }

    #[test]
    fn a_wrapped_key_that_was_harmed_or_renamed_does_not_open(harm in harm(), id in "k[0-3]|\\PC{0,6}") {
        let (ring, batch) = (ring(), BatchId::random());
        let wrapped = ring.wrap(&DataKey::generate(), batch);
        let harmed = WrappedKey { sealed: harm.done_to(&wrapped.sealed), ..wrapped.clone() };
        prop_assert_eq!(ring.unwrap(&harmed, batch).is_ok(), harmed.sealed == wrapped.sealed);
        let renamed = WrappedKey { key_id: id, ..wrapped.clone() };
        prop_assert_eq!(ring.unwrap(&renamed, batch).is_ok(), renamed.key_id == wrapped.key_id);
        prop_assert!(ring.unwrap(&wrapped, BatchId::random()).is_err());
    }

    #[test]
    fn a_secret_opens_under_its_name_and_nothing_else_opens_as_it(name in ".{0,8}", other in ".{0,8}", harm in harm()) {
        let ring = ring();
        let wrapped = ring.wrap_secret(&name, b"secret");
        prop_assert_eq!(ring.unwrap_secret(&wrapped, &other).is_ok(), name == other);
        let harmed = WrappedKey { sealed: harm.done_to(&wrapped.sealed), ..wrapped.clone() };
        prop_assert_eq!(ring.unwrap_secret(&harmed, &name).is_ok(), harmed.sealed == wrapped.sealed);
        prop_assert!(ring.unwrap(&wrapped, BatchId::random()).is_err());
        prop_assert!(ring.verify_proof(&wrapped).is_err());
    }

    #[test]
    fn any_text_is_a_ring_or_a_fault_that_quotes_none_of_it(text in "[kz:, #=\r\nA-Za-z0-9+/]{0,80}|\\PC{0,80}") {
        let text = format!("zqKEYqz{text}");
        if let Err(error) = KeyRing::parse(&text) {
            prop_assert!(!error.to_string().contains("zq"), "{}", error);
        }
    }
}
