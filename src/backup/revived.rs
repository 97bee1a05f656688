//! What a restore would undo: keys that were rotated or removed, clients and operators that were removed, roles that were
//! lowered, webhooks that were changed, and whatever somebody set to hold work back, since the backup.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use zeroize::Zeroizing;

use crate::{
    announce,
    crypto::KeyRing,
    model::{BatchId, Role, Timestamp},
    store::{
        ended::{ClientWebhook, Key, Keys, Limits, Standing, Stop},
        keys::SealedSecret,
    },
};

/// Names of a kind that a person is told. A program is told them all.
const NAMES_TOLD: usize = 20;

/// By name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Revived {
    /// Operators that were removed, or whose token is another one by now.
    pub operators: Vec<String>,
    /// Operators who may less by now.
    pub lowered: Vec<String>,
    /// Clients that were removed.
    pub clients: Vec<String>,
    /// Keys of other clients that are good no more, for less, or not for as long, each as `CLIENT/KEY`.
    pub keys: Vec<String>,
    /// Other clients that are told of their batches somewhere else by now, or nowhere.
    pub webhooks: Vec<String>,
    /// Other clients of which the pause, the workflows, the quotas or the rows of a run are others by now.
    pub limits: Vec<String>,
    /// Dependencies for which another rate was set.
    pub rates: Vec<String>,
    /// Batches that were not finished, and were paused or cancelled.
    pub stopped: Vec<BatchId>,
}

impl Revived {
    /// What is good in the early one and was not any more in the late one. The ring opens webhooks, to be compared.
    pub fn between(early: &Standing, late: &Standing, ring: &KeyRing, now: Timestamp) -> Self {
        let mut revived = Self::default();
        for (name, token) in &early.operators {
            match late.operators.get(name) {
                Some(of_late) if of_late.hash == token.hash && of_late.role >= token.role => {}
                Some(of_late) if of_late.hash == token.hash => revived.lowered.push(name.clone()),
                _ => revived.operators.push(name.clone()),
            }
        }
        for (name, keys) in &early.clients {
            match late.clients.get(name) {
                None => revived.clients.push(name.clone()),
                Some(of_late) => revived.keys.extend(ended(keys, of_late, now).map(|key| format!("{name}/{key}"))),
            }
        }
        let told =
            early.webhooks.iter().filter(|(name, webhook)| is_elsewhere(late.webhooks.get(*name), webhook, ring));
        revived.webhooks = told.map(|(name, _)| name.clone()).collect();
        let limits = early.limits.iter().filter(|(name, limits)| is_another(late.limits.get(*name), limits));
        revived.limits = limits.map(|(name, _)| name.clone()).collect();
        let rated: BTreeSet<&String> = early.rates.keys().chain(late.rates.keys()).collect();
        let rated = rated.into_iter().filter(|name| early.rates.get(*name) != late.rates.get(*name));
        revived.rates = rated.cloned().collect();
        let stopped = early
            .unfinished
            .iter()
            .filter(|id| late.stopped.get(id).is_some_and(|stop| early.stopped.get(id) != Some(stop)));
        revived.stopped = stopped.copied().collect();
        revived
    }

    /// Whether there is nothing of that.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that these clients had in the late one; `None` where it had been removed.
    pub fn keys_of(&self, late: &Standing) -> BTreeMap<String, Option<Keys>> {
        let of_keys = self.keys.iter().filter_map(|key| key.split('/').next()).map(str::to_owned);
        let names = self.clients.iter().cloned().chain(of_keys);
        names.map(|name| (name.clone(), late.clients.get(&name).cloned())).collect()
    }

    /// The roles that these operators had in the late one.
    pub fn roles_of(&self, late: &Standing) -> BTreeMap<String, Role> {
        let role = |name: &String| late.operators.get(name).map(|token| (name.clone(), token.role));
        self.lowered.iter().filter_map(role).collect()
    }

    /// The webhooks that these clients had in the late one, sealed for the early one; `None`: they were told nowhere.
    pub fn webhooks_of(
        &self,
        early: &Standing,
        late: &Standing,
        ring: &KeyRing,
    ) -> BTreeMap<String, Option<SealedSecret>> {
        let both = |name: &String| Some((name.clone(), early.webhooks.get(name)?, late.webhooks.get(name)?));
        let sealed = |here: &ClientWebhook, there| Some(announce::seal(ring, here.client, &opened(there, ring)?));
        self.webhooks.iter().filter_map(both).map(|(name, here, there)| (name, sealed(here, there))).collect()
    }

    /// The limits that these clients had in the late one.
    pub fn limits_of(&self, late: &Standing) -> BTreeMap<String, Limits> {
        self.limits.iter().filter_map(|name| late.limits.get_key_value(name)).map(owned).collect()
    }

    /// The rates that were set for these dependencies in the late one; `None`: the configured one held.
    pub fn rates_of(&self, late: &Standing) -> BTreeMap<String, Option<f64>> {
        self.rates.iter().map(|name| (name.clone(), late.rates.get(name).copied())).collect()
    }

    /// How these batches were stopped in the late one.
    pub fn stops_of(&self, late: &Standing) -> BTreeMap<BatchId, Stop> {
        self.stopped.iter().filter_map(|id| late.stopped.get_key_value(id)).map(owned).collect()
    }

    /// A line for each kind.
    pub fn told(&self) -> String {
        let stopped: Vec<String> = self.stopped.iter().map(ToString::to_string).collect();
        let kinds = [
            (&self.operators, "operators that were removed"),
            (&self.lowered, "operators whose role was lowered"),
            (&self.clients, "clients that were removed"),
            (&self.keys, "keys of clients that were rotated, removed or narrowed"),
            (&self.webhooks, "clients whose webhook is another"),
            (&self.limits, "clients that were paused or given other limits"),
            (&self.rates, "dependencies that were given another rate"),
            (&stopped, "batches that were paused or cancelled"),
        ];
        let lines = kinds.iter().filter(|(names, _)| !names.is_empty());
        lines.map(|(names, what)| format!("{what}: {}", some_of(names))).collect::<Vec<_>>().join("; ")
    }
}

fn is_another(late: Option<&Limits>, early: &Limits) -> bool {
    late.is_some_and(|late| late != early)
}

/// Whether it is another address or another secret: sealed anew by a rotation of keys it is the same.
fn is_elsewhere(late: Option<&ClientWebhook>, early: &ClientWebhook, ring: &KeyRing) -> bool {
    late.is_some_and(|late| opened(late, ring) != opened(early, ring))
}

/// What is sealed of a webhook. What does not open is worth nothing to anybody, and is none.
fn opened(webhook: &ClientWebhook, ring: &KeyRing) -> Option<Zeroizing<Vec<u8>>> {
    announce::unseal(ring, webhook.client, webhook.sealed.clone()?).ok()
}

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

fn some_of(names: &[String]) -> String {
    let told = &names[..names.len().min(NAMES_TOLD)];
    let more = names.len() - told.len();
    told.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// The names of the early keys of which something is good that was not in the late ones, was for less, or would have ended
/// sooner there: a key that was rotated is good for a while.
fn ended<'a>(early: &'a Keys, late: &'a Keys, now: Timestamp) -> impl Iterator<Item = &'a str> {
    let is_as_good = move |key: &Key, hash: &[u8; 32], end: Timestamp| {
        let mut of_late = late.values().filter(|of_late| of_late.scopes.include(key.scopes));
        of_late.any(|of_late| of_late.good(now).any(|(good, its_end)| good == hash && its_end >= end))
    };
    let is_ended = move |(_, key): &(&String, &'a Key)| key.good(now).any(|(hash, end)| !is_as_good(key, hash, end));
    early.iter().filter(is_ended).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Scopes, store::ended::Token};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn ring() -> KeyRing {
        KeyRing::parse(&KeyRing::generate_line("k").expect("a line")).expect("a ring")
    }

    fn key(hash: u8, old: Option<(u8, i64)>) -> Key {
        let old = old.map(|(hash, until)| ([hash; 32], Timestamp(until)));
        Key { hash: [hash; 32], old, scopes: Scopes::ALL, expires_at: None }
    }

    fn narrow(key: Key) -> Key {
        Key { scopes: "read".parse().expect("a scope"), ..key }
    }

    fn client(keys: &[(&str, Key)]) -> Keys {
        keys.iter().map(|(name, key)| ((*name).to_owned(), key.clone())).collect()
    }

    fn standing(operators: &[(&str, u8, Role)], clients: Vec<(&str, Keys)>) -> Standing {
        let token =
            |(name, hash, role): &(&str, u8, Role)| ((*name).to_owned(), Token { hash: [*hash; 32], role: *role });
        Standing {
            operators: operators.iter().map(token).collect(),
            clients: clients.into_iter().map(|(name, keys)| (name.to_owned(), keys)).collect(),
            ..Standing::default()
        }
    }

    #[test]
    fn what_was_ended_since_is_found_and_what_is_still_good_is_not() {
        let expired = Key { expires_at: Some(NOW), ..key(30, None) };
        let ends = Key { expires_at: Some(Timestamp(2_000_000)), ..key(9, None) };
        let early = standing(
            &[("ada", 1, Role::Admin), ("eve", 2, Role::Viewer), ("bob", 3, Role::Viewer), ("low", 4, Role::Admin)],
            vec![
                ("same", client(&[("default", key(1, None)), ("over", expired)])),
                ("rotated", client(&[("default", key(2, None)), ("other", key(20, None))])),
                ("gone", client(&[("default", key(3, None))])),
                ("grace", client(&[("default", key(4, None))])),
                ("ends", client(&[("default", key(9, None)), ("in_grace", key(11, Some((10, 2_000_000))))])),
                ("fewer", client(&[("default", key(5, None)), ("job", key(6, None))])),
                ("wider", client(&[("job", narrow(key(7, None)))])),
                ("narrowed", client(&[("job", key(8, None))])),
            ],
        );
        let late = standing(
            &[("ada", 1, Role::Admin), ("bob", 9, Role::Viewer), ("new", 5, Role::Viewer), ("low", 4, Role::Operator)],
            vec![
                ("same", client(&[("renamed", key(1, None))])),
                ("rotated", client(&[("default", key(12, Some((2, 999_999)))), ("other", key(20, None))])),
                ("grace", client(&[("default", key(14, Some((4, 2_000_000))))])),
                ("ends", client(&[("default", ends), ("in_grace", key(11, Some((10, 2_000_000))))])),
                ("fewer", client(&[("default", key(5, None))])),
                ("wider", client(&[("job", key(7, None))])),
                ("narrowed", client(&[("job", narrow(key(8, None)))])),
            ],
        );
        let revived = Revived::between(&early, &late, &ring(), NOW);
        assert_eq!(
            (&revived.operators[..], &revived.lowered[..]),
            (&["bob", "eve"].map(String::from)[..], &["low".to_owned()][..])
        );
        assert_eq!(revived.clients, ["gone"]);
        assert_eq!(
            revived.keys,
            ["ends/default", "fewer/job", "grace/default", "narrowed/job", "rotated/default"],
            "one that is good for a while would be good for ever"
        );
        let keys = revived.keys_of(&late);
        assert_eq!(
            keys.keys().map(String::as_str).collect::<Vec<_>>(),
            ["ends", "fewer", "gone", "grace", "narrowed", "rotated"]
        );
        assert_eq!((&keys["gone"], keys["fewer"].as_ref().map(Keys::len)), (&None, Some(1)));
        assert_eq!(revived.roles_of(&late)["low"], Role::Operator);
        assert!(Revived::between(&late, &late, &ring(), NOW).is_empty());
    }

    #[test]
    fn a_webhook_is_another_by_what_is_sealed_and_is_sealed_for_the_client_that_gets_it() {
        let [first, second] = ["first", "second"].map(|id| KeyRing::generate_line(id).expect("a line"));
        let ring = KeyRing::parse(&first).expect("a ring");
        let rotated = KeyRing::parse(&[second.as_str(), first.as_str()].join("\n")).expect("a ring");
        let webhook = |ring: &KeyRing, client, plain: &str| {
            let sealed = (!plain.is_empty()).then(|| announce::seal(ring, client, plain.as_bytes()));
            ClientWebhook { client, sealed }
        };
        let standing = |webhooks: [(&str, ClientWebhook); 6]| Standing {
            webhooks: webhooks.into_iter().map(|(name, webhook)| (name.to_owned(), webhook)).collect(),
            ..Standing::default()
        };
        let early = standing([
            ("added", webhook(&ring, 1, "")),
            ("changed", webhook(&ring, 2, "then")),
            ("none", webhook(&ring, 3, "")),
            ("removed", webhook(&ring, 4, "then")),
            ("same", webhook(&ring, 5, "then")),
            ("spoilt", webhook(&ring, 6, "then")),
        ]);
        let spoilt = ClientWebhook { client: 66, ..webhook(&rotated, 6, "now") };
        let mut late = standing([
            ("added", webhook(&rotated, 11, "now")),
            ("changed", webhook(&rotated, 12, "now")),
            ("none", webhook(&rotated, 13, "")),
            ("removed", webhook(&rotated, 14, "")),
            ("same", webhook(&rotated, 15, "then")),
            ("spoilt", spoilt),
        ]);
        late.webhooks.insert("new".to_owned(), webhook(&rotated, 17, "now"));
        let revived = Revived::between(&early, &late, &rotated, NOW);
        assert_eq!(revived.webhooks, ["added", "changed", "removed", "spoilt"]);
        let carried = revived.webhooks_of(&early, &late, &rotated);
        let opened = carried.into_iter().map(|(name, sealed)| {
            let client = early.webhooks[&name].client;
            let plain = sealed.map(|sealed| announce::unseal(&rotated, client, sealed).expect("it is the client's"));
            (name, plain.map(|plain| plain.to_vec()))
        });
        let now = || Some(b"now".to_vec());
        let wanted = [("added", now()), ("changed", now()), ("removed", None), ("spoilt", None)];
        assert_eq!(opened.collect::<Vec<_>>(), wanted.map(|(name, plain)| (name.to_owned(), plain)));
    }

    #[test]
    fn what_was_held_back_since_is_found_and_a_person_is_told_some_of_many() {
        let mut ids: Vec<BatchId> = (0..30).map(|_| BatchId::random()).collect();
        ids.sort();
        let limits = |paused| Limits { paused, ..Limits::default() };
        let clients = |paused: &[&str]| {
            ["acme", "globex", "gone"].iter().map(|name| ((*name).to_owned(), limits(paused.contains(name)))).collect()
        };
        let early = Standing {
            limits: clients(&["globex"]),
            rates: [("same".to_owned(), 2.0), ("lowered".to_owned(), 5.0), ("back".to_owned(), 1.0)].into(),
            unfinished: ids[1..].iter().copied().collect(),
            stopped: [(ids[1], Stop::Paused(None)), (ids[2], Stop::Paused(None))].into(),
            ..Standing::default()
        };
        let mut late = Standing {
            limits: clients(&["acme", "globex"]),
            rates: [("same".to_owned(), 2.0), ("lowered".to_owned(), 1.0), ("new".to_owned(), 1.0)].into(),
            stopped: ids.iter().map(|id| (*id, Stop::Cancelled)).collect(),
            ..Standing::default()
        };
        late.limits.remove("gone");
        late.stopped.insert(ids[1], Stop::Paused(None));
        let revived = Revived::between(&early, &late, &ring(), NOW);
        assert_eq!(
            (&revived.limits[..], &revived.rates[..]),
            (&["acme".into()][..], &["back", "lowered", "new"].map(String::from)[..])
        );
        assert_eq!(revived.stopped, ids[2..], "neither the one that was finished nor the one that was paused before");
        assert_eq!(revived.rates_of(&late)["back"], None);
        assert_eq!(revived.stops_of(&late)[&ids[2]], Stop::Cancelled);
        assert!(revived.told().ends_with(" and 8 more"), "{}", revived.told());
    }
}
