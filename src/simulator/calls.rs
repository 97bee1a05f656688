//! The three calls: what is asked, and what is answered.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{NO_ADDRESS, REJECTED_DOMAIN};

/// One of the three calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `POST /address-links`
    AddressLinks,
    /// `GET /addresses`
    GetAddresses,
    /// `POST /invites`
    InviteCreate,
}

/// A status and a JSON body.
pub(super) type Answer = (u16, Value);

#[derive(Deserialize)]
struct Place {
    postcode: String,
    house_number: String,
}

#[derive(Deserialize)]
struct Invite {
    email: String,
    address_id: String,
}

/// A link to the addresses of a place: the same for the same place.
pub(super) fn address_links(body: &[u8]) -> Answer {
    match serde_json::from_slice::<Place>(body) {
        Ok(place) => {
            let found = if place.house_number.trim() == NO_ADDRESS { "none" } else { "some" };
            let digest = short_digest(&[place.postcode.as_bytes(), place.house_number.as_bytes()]);
            (200, json!({ "link": format!("lnk_{found}_{digest}") }))
        }
        Err(_) => invalid("postcode and house_number are needed"),
    }
}

/// The addresses behind a link: one, or none.
pub(super) fn addresses(link: &str) -> Answer {
    match link.strip_prefix("lnk_").and_then(|rest| rest.split_once('_')) {
        Some(("some", digest)) => (200, json!({ "addresses": [{ "id": format!("adr_{digest}") }] })),
        Some(("none", _)) => (200, json!({ "addresses": [] })),
        _ => (404, json!({ "error": "there is no such link" })),
    }
}

/// Whom an invite that can be created is for, or the answer that says why it cannot.
pub(super) fn invited_email(body: &[u8]) -> Result<String, Answer> {
    match serde_json::from_slice::<Invite>(body) {
        Ok(invite) if invite.email.ends_with(REJECTED_DOMAIN) => Err(invalid("this address cannot be invited")),
        Ok(invite) if invite.address_id.is_empty() => Err(invalid("address_id is empty")),
        Ok(invite) => Ok(invite.email),
        Err(_) => Err(invalid("email and address_id are needed")),
    }
}

/// The answer to an invite that was created: its id follows from its body.
pub(super) fn created(body: &[u8]) -> Answer {
    (201, json!({ "check_id": check_id(body) }))
}

fn check_id(body: &[u8]) -> String {
    format!("chk_{}", short_digest(&[body]))
}

fn invalid(why: &str) -> Answer {
    (422, json!({ "error": why }))
}

fn short_digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}
