//! Wrong keys that somebody showed, gathered for the audit: an entry a minute at most tells how many came from where, so
//! that guessing fills no disk.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Context, answer::blocking};
use crate::{appliance::Appliance, operations, store::audit::Deed};

/// Between two entries.
const EVERY: Duration = Duration::from_secs(60);
/// Addresses that are told apart meanwhile.
const ADDRESSES: usize = 1_000;
/// Those of them that an entry names: the ones with the most.
const NAMED: usize = 5;

/// What was shown since the last entry.
#[derive(Default)]
pub struct WrongKeys(Mutex<Gathered>);

#[derive(Default)]
struct Gathered {
    wrong: u64,
    by_address: HashMap<Option<IpAddr>, u64>,
    /// When the last entry was made, in steady nanoseconds.
    told_at: Option<i64>,
}

impl WrongKeys {
    /// One was wrong.
    pub(super) fn wrong(&self, origin: Option<IpAddr>) {
        let mut gathered = self.lock();
        gathered.wrong += 1;
        gathered.from(origin);
    }

    /// What is to be noted at this steady time; `at_once`: also where the last entry was made just now.
    fn take(&self, now: i64, at_once: bool) -> Option<Deed> {
        let mut gathered = self.lock();
        let is_early = gathered.told_at.is_some_and(|at| now - at < EVERY.as_nanos() as i64);
        if gathered.wrong == 0 || (is_early && !at_once) {
            return None;
        }
        let deed = gathered.deed();
        *gathered = Gathered { told_at: Some(now), ..Gathered::default() };
        Some(deed)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn from(&mut self, origin: Option<IpAddr>) {
        if self.by_address.len() < ADDRESSES || self.by_address.contains_key(&origin) {
            *self.by_address.entry(origin).or_default() += 1;
        }
    }

    fn deed(&self) -> Deed {
        let mut addresses: Vec<_> = self.by_address.iter().collect();
        addresses.sort_unstable_by_key(|(address, count)| (std::cmp::Reverse(**count), **address));
        let told = |address: &Option<IpAddr>| address.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        let mut why = format!("{} wrong keys", self.wrong);
        let origin = match &addresses[..] {
            [(address, _)] => told(address),
            several => {
                let named: Vec<_> =
                    several.iter().take(NAMED).map(|(address, count)| format!("{} ({count})", told(address))).collect();
                let at_least = if several.len() >= ADDRESSES { "at least " } else { "" };
                why += &format!(" from {at_least}{} addresses, the most from {}", several.len(), named.join(", "));
                "several addresses".to_owned()
            }
        };
        Deed { who: "unknown".to_owned(), origin, action: "sign-in.failed", target: None, why: Some(why) }
    }
}

/// Notes what is due.
pub(super) async fn look(context: &Context) {
    let now = context.appliance.clock.steady();
    if let Some(deed) = context.door.wrong_keys.take(now, false) {
        let appliance = context.appliance.clone();
        let noted = move || {
            note(&appliance, deed);
            Ok(())
        };
        let _ = blocking(noted).await;
    }
}

/// Notes what is left, at the end of a server. Blocks.
pub fn note_rest(context: &Context) {
    if let Some(deed) = context.door.wrong_keys.take(context.appliance.clock.steady(), true) {
        note(&context.appliance, deed);
    }
}

fn note(appliance: &Appliance, deed: Deed) {
    if let Err(error) = operations::note(&appliance.store, deed) {
        tracing::error!(event = "audit.not_noted", %error, "wrong keys could not be noted in the audit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = EVERY.as_nanos() as i64;

    fn address(last: u16) -> Option<IpAddr> {
        Some(IpAddr::from([203, 0, (last >> 8) as u8, last as u8]))
    }

    #[test]
    fn the_first_is_told_at_once_and_then_as_many_as_a_minute_brings() {
        let keys = WrongKeys::default();
        assert_eq!(keys.take(0, true), None);
        keys.wrong(address(1));
        let first = keys.take(5, false).expect("an entry");
        assert_eq!((&first.origin[..], first.why.as_deref()), ("203.0.0.1", Some("1 wrong keys")));
        for _ in 0..3 {
            keys.wrong(address(2));
            keys.wrong(address(3));
        }
        keys.wrong(address(2));
        assert_eq!(keys.take(MINUTE, false), None);
        let second = keys.take(MINUTE + 5, false).expect("an entry");
        let why = "7 wrong keys from 2 addresses, the most from 203.0.0.2 (4), 203.0.0.3 (3)";
        assert_eq!((&second.origin[..], second.why.as_deref()), ("several addresses", Some(why)));
        assert_eq!(keys.take(9 * MINUTE, false), None);
    }

    #[test]
    fn many_addresses_are_counted_and_not_kept() {
        let keys = WrongKeys::default();
        for number in 0..3 * ADDRESSES as u16 {
            keys.wrong(address(number));
        }
        assert!(keys.lock().by_address.len() <= ADDRESSES);
        let why = keys.take(0, false).and_then(|deed| deed.why).expect("an entry");
        assert!(why.starts_with("3000 wrong keys from at least 1000 addresses") && why.len() < 300, "{why}");
    }
}
