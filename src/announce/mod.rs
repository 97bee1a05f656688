//! Announcements: a client's webhook is told that a batch has finished.
//!
//! The outbox is written by the transaction that finishes the batch ([`crate::store::deliveries`]); a thread of the server
//! sends what is due and notes what came of it. A crash in between repeats an announcement under the same `webhook-id`,
//! by which a receiver knows it: at least once, as Standard Webhooks has it.

pub mod post;
mod signature;

use std::{sync::Arc, time::Duration};

use post::{Poster, Refused};
use rand::RngExt;
pub use signature::new_secret;
use signature::signature;
use zeroize::Zeroizing;

use crate::{
    appliance::Appliance,
    crypto::{KeyRing, MacKey, OpenError, WrappedKey},
    model::Timestamp,
    store::{
        StoreError,
        deliveries::{self, Attempted, Due, Trouble},
        keys::SealedSecret,
        webhooks,
    },
};

/// How often the outbox is looked at: one look into an index. A command may end a batch too, and rings no bell here.
const EVERY: Duration = Duration::from_secs(1);
/// For a whole attempt: what Standard Webhooks advises.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Announcements that are under way at once, each to another client's receiver.
const AT_ONCE: u32 = 8;
/// The waits after each attempt that was not taken; behind the last one it is given up. Standard Webhooks' schedule, with
/// two quick ones before it for a receiver that is just being restarted.
const WAITS: [Duration; 11] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(14 * 60 * 60),
    Duration::from_secs(20 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// Each wait is made longer or shorter by up to this share, so that receivers are not called in step.
const JITTER: f64 = 0.1;
/// The longest pause that a receiver can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How long announcements are kept to be looked at, after they were delivered or given up.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest address of a webhook.
const LONGEST_URL: usize = 2_000;
/// What a signing secret has.
const SECRET_BYTES: usize = 32;

/// Where a client is told, and what that is signed with. Both are secrets: whoever knows the address may be able to write there.
pub struct Target {
    url: Zeroizing<String>,
    secret: Zeroizing<Vec<u8>>,
}

impl Target {
    /// A new one, as it is kept: sealed under the ring.
    pub fn seal(ring: &KeyRing, client: i64, url: &str, secret: &MacKey) -> SealedSecret {
        let plain = Zeroizing::new([secret.as_bytes().as_slice(), url.as_bytes()].concat());
        seal(ring, client, &plain)
    }

    /// Opens what is kept of a client's.
    pub fn open(ring: &KeyRing, client: i64, sealed: SealedSecret) -> Result<Self, OpenError> {
        let plain = unseal(ring, client, sealed)?;
        let (secret, url) = plain.split_at_checked(SECRET_BYTES).ok_or(OpenError::DoesNotOpen)?;
        let url = std::str::from_utf8(url).map_err(|_| OpenError::DoesNotOpen)?;
        Ok(Self { url: Zeroizing::new(url.to_owned()), secret: Zeroizing::new(secret.to_vec()) })
    }

    /// The address as it may be shown: scheme and host. A path or a query may be all that it takes to write there.
    pub fn shown(&self) -> String {
        let parsed: Option<ureq::http::Uri> = self.url.parse().ok();
        let origin = parsed.as_ref().and_then(|url| Some((url.scheme_str()?, url.authority()?)));
        origin.map_or_else(|| "…".to_owned(), |(scheme, authority)| format!("{scheme}://{authority}/…"))
    }
}

/// What a client's webhook is sealed as.
pub fn sealed_as(client: i64) -> String {
    format!("webhook:{client}")
}

/// Seals what is kept of a client's webhook.
pub fn seal(ring: &KeyRing, client: i64, plain: &[u8]) -> SealedSecret {
    let WrappedKey { key_id, sealed } = ring.wrap_secret(&sealed_as(client), plain);
    SealedSecret { key_id, sealed }
}

/// Opens it: the same for the same address and signing secret, whichever key seals it.
pub fn unseal(ring: &KeyRing, client: i64, sealed: SealedSecret) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    ring.unwrap_secret(&WrappedKey { key_id: sealed.key_id, sealed: sealed.sealed }, &sealed_as(client))
}

/// Whether a webhook may be there; what would be right, where not. Over TLS, or on this machine: what is announced is
/// not private, but who reads it on its way could hold it back.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    const WRONG: &str = "the URL is https://HOST/PATH, or http:// and a host on this machine; without a name and \
                         password in it, and without a fragment";
    let parsed: ureq::http::Uri = url.parse().map_err(|_| WRONG)?;
    let host = parsed.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_fitting = match parsed.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    };
    let has_user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if is_fitting && !has_user && !url.contains('#') && url.len() <= LONGEST_URL { Ok(()) } else { Err(WRONG) }
}

/// Sends what is due until the appliance closes.
pub fn watch(appliance: &Arc<Appliance>) {
    let poster = Poster::new(TIMEOUT);
    while !appliance.closing.wait(EVERY) {
        if let Err(error) = round(appliance, &poster) {
            tracing::error!(
                event = "announcement.not_noted",
                %error,
                "announcements could not be sent or noted; they stay in the outbox"
            );
        }
    }
}

fn round(appliance: &Arc<Appliance>, poster: &Poster) -> Result<(), StoreError> {
    let now = appliance.clock.now();
    let due = appliance.store.read(|connection| deliveries::due(connection, now, AT_ONCE))?;
    if due.is_empty() {
        return Ok(());
    }
    let noted = std::thread::scope(|scope| {
        let attempts: Vec<_> = due.iter().map(|due| scope.spawn(move || attempt(appliance, poster, due))).collect();
        let joined = attempts.into_iter().filter_map(|attempt| attempt.join().ok());
        joined.collect::<Result<Vec<()>, StoreError>>()
    });
    appliance.store.write(move |tx| deliveries::sweep(tx, now.before(KEPT)))?;
    noted.map(drop)
}

fn attempt(appliance: &Appliance, poster: &Poster, due: &Due) -> Result<(), StoreError> {
    let outcome = send(appliance, poster, due)?;
    let now = appliance.clock.now();
    let attempted = match outcome {
        Ok(status) => Attempted::Delivered(status),
        Err(refused) => after(due.attempts, refused, now),
    };
    tell(due, &attempted);
    appliance.metrics.announcements.attempted(match &attempted {
        Attempted::Delivered(_) => "delivered",
        Attempted::Again(..) => "again",
        Attempted::GivenUp(_) => "given_up",
    });
    let delivery = due.delivery;
    appliance.store.write(move |tx| deliveries::attempted(tx, delivery, &attempted))
}

fn tell(due: &Due, attempted: &Attempted) {
    let (webhook_id, attempt) = (&due.id, due.attempts + 1);
    match attempted {
        Attempted::Delivered(http_status) => {
            tracing::info!(event = "announcement.delivered", webhook_id, attempt, http_status, "announced");
        }
        Attempted::Again(at, Trouble { http_status, what }) => tracing::warn!(
            event = "announcement.delayed",
            webhook_id,
            attempt,
            http_status,
            trouble = what,
            next_attempt_at = %at,
            "an announcement was not taken; it is sent again"
        ),
        Attempted::GivenUp(Trouble { http_status, what }) => tracing::warn!(
            event = "announcement.given_up",
            webhook_id,
            attempt,
            http_status,
            trouble = what,
            "an announcement was not taken, and is given up"
        ),
    }
}

fn send(appliance: &Appliance, poster: &Poster, due: &Due) -> Result<Result<u16, Refused>, StoreError> {
    let Some(webhook) = appliance.store.read(|connection| webhooks::find(connection, due.client))? else {
        return Ok(Err(Refused::for_good("the client has no webhook any more")));
    };
    let target = match Target::open(&appliance.ring(), due.client, webhook.sealed) {
        Ok(target) => target,
        // The key may be put back into the ring.
        Err(error) => return Ok(Err(Refused::unanswered(format!("the webhook cannot be opened: {error}")))),
    };
    let timestamp = appliance.clock.now().0.div_euclid(1_000);
    let headers = [
        ("webhook-id", due.id.as_str()),
        ("webhook-timestamp", &timestamp.to_string()),
        ("webhook-signature", &signature(&target.secret, &due.id, timestamp, &due.payload)),
    ];
    Ok(poster.post(&target.url, &headers, &due.payload))
}

/// What follows from an attempt that was not taken, after `before` others.
fn after(before: u32, refused: Refused, now: Timestamp) -> Attempted {
    let wait = WAITS.get(before as usize).filter(|_| !refused.for_good);
    let Some(wait) = wait else { return Attempted::GivenUp(refused.trouble) };
    let spread = wait.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER));
    let asked = refused.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    Attempted::Again(now.after(spread.max(asked)), refused.trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_over_tls_or_on_this_machine() {
        for url in ["https://hooks.example/a?token=b", "http://127.0.0.1:9000/", "http://[::1]/x", "http://localhost"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        let long = format!("https://hooks.example/{}", "x".repeat(LONGEST_URL));
        for url in [
            "",
            "hooks.example",
            "ftp://h/",
            "http://hooks.example/",
            "https://",
            "https://a:b@h/",
            "https://h/#x",
            &long,
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_target_opens_for_its_client_and_shows_its_host_alone() {
        let ring = KeyRing::parse(&KeyRing::generate_line("k").expect("a line")).expect("a ring");
        let (secret, _) = new_secret();
        for (url, shown) in [
            ("https://hooks.example/services/T0/hush?token=b", "https://hooks.example/…"),
            ("https://hooks.example:8443/hush", "https://hooks.example:8443/…"),
            ("http://[::1]:9000", "http://[::1]:9000/…"),
        ] {
            let sealed = Target::seal(&ring, 7, url, &secret);
            let hidden = |part: &[u8]| !sealed.sealed.windows(part.len()).any(|window| window == part);
            assert!(hidden(b"hush") && hidden(b"http") && hidden(secret.as_bytes()));
            let target = Target::open(&ring, 7, sealed.clone()).expect("its client");
            assert_eq!((target.url.as_str(), target.secret.as_slice()), (url, secret.as_bytes().as_slice()));
            assert_eq!(target.shown(), shown);
            assert!(Target::open(&ring, 8, sealed).is_err());
        }
    }

    #[test]
    fn tries_wait_longer_and_longer_and_end() {
        let now = Timestamp(0);
        let again = |before, retry_after| {
            let refused = Refused { retry_after, ..Refused::unanswered("no answer in time") };
            match after(before, refused, now) {
                Attempted::Again(at, _) => Some(at.since(now)),
                _ => None,
            }
        };
        for (before, wait) in WAITS.iter().enumerate() {
            let waited = again(before as u32, None).expect("another try");
            assert!(waited >= wait.mul_f64(0.89) && waited <= wait.mul_f64(1.11), "{waited:?} for {wait:?}");
        }
        assert_eq!(again(WAITS.len() as u32, None), None, "given up");
        assert_eq!(again(0, Some(Duration::from_secs(600))), Some(Duration::from_secs(600)));
        assert_eq!(again(0, Some(Duration::from_secs(u64::MAX))), Some(LONGEST_RETRY_AFTER));
        assert!(matches!(after(0, Refused::for_good("gone"), now), Attempted::GivenUp(_)));
    }
}
