//! What the simulator remembers: calls, windows, invites. Digests only, so that a million invites fit.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

use super::{
    SimulatorOptions, Stats,
    calls::{self, Answer, Call},
    script::{Asked, Behaviour, Play, Script},
    window::Window,
};

/// 16 bytes stand for a key or a body.
pub(super) type Short = [u8; 16];

/// What happens to a call before it is looked at.
pub(super) enum Admission {
    /// It is answered.
    Answer,
    /// It is answered 500.
    Error,
    /// It is never answered.
    Hang,
    /// There were too many: come again after so many seconds.
    TooMany(u64),
    /// It is answered as the script says.
    Scripted(Arc<Behaviour>),
    /// It is for a path that there is not.
    Unknown,
}

pub(super) struct Ledger {
    options: SimulatorOptions,
    random: StdRng,
    arrivals: Window,
    accepted: Window,
    stats: Stats,
    /// What was answered for an `Idempotency-Key`: the digest of the body that came with it.
    keys: HashMap<Short, Short>,
    invites: HashSet<Short>,
    /// How often each e-mail address was invited.
    invited: HashMap<Short, u32>,
    play: Play,
}

impl Ledger {
    pub(super) fn new(options: SimulatorOptions, script: Script) -> Self {
        Self {
            options,
            random: StdRng::seed_from_u64(options.seed),
            arrivals: Window::default(),
            accepted: Window::default(),
            stats: Stats::default(),
            keys: HashMap::new(),
            invites: HashSet::new(),
            invited: HashMap::new(),
            play: Play::new(script),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn times_invited(&self, email: &str) -> u32 {
        self.invited.get(&short(&[email.as_bytes()])).copied().unwrap_or_default()
    }

    pub(super) fn set_faults(&mut self, errors: f64, hang: f64) {
        self.options.errors = errors;
        self.options.hang = hang;
    }

    /// Counts a call in, and decides what becomes of it: by the script, by the rate, by luck, in this order.
    pub(super) fn admit(&mut self, call: Option<Call>, asked: &Asked<'_>) -> Admission {
        let now = Instant::now();
        let scripted = self.play.next(asked);
        let Some(call) = call else { return scripted.map_or(Admission::Unknown, Admission::Scripted) };
        self.stats.busiest_second = self.stats.busiest_second.max(self.arrivals.count_in(now));
        if let Some(behaviour) = scripted {
            self.count(call);
            return Admission::Scripted(behaviour);
        }
        if let Some(rate) = self.options.rate
            && let Some(wait) = self.accepted.full_for(now, rate)
        {
            self.stats.refused += 1;
            return Admission::TooMany(wait.as_secs() + 1);
        }
        self.accepted.count_in(now);
        self.count(call);
        let luck: f64 = self.random.random();
        if luck < self.options.errors {
            Admission::Error
        } else if luck < self.options.errors + self.options.hang {
            Admission::Hang
        } else {
            Admission::Answer
        }
    }

    fn count(&mut self, call: Call) {
        match call {
            Call::AddressLinks => self.stats.calls.address_links += 1,
            Call::GetAddresses => self.stats.calls.get_addresses += 1,
            Call::InviteCreate => self.stats.calls.invite_create += 1,
        }
    }

    /// Creates an invite, unless its key was seen before: then the first answer is given again.
    pub(super) fn create_invite(&mut self, key: Option<&[u8]>, body: &[u8]) -> Answer {
        let email = match calls::invited_email(body) {
            Ok(email) => email,
            Err(refused) => return refused,
        };
        let invite = short(&[body]);
        if let Some(key) = key.map(|key| short(&[key])) {
            if let Some(first) = self.keys.get(&key) {
                self.stats.replayed += 1;
                return if *first == invite {
                    calls::created(body)
                } else {
                    (422, serde_json::json!({ "error": "this Idempotency-Key came with another body" }))
                };
            }
            self.keys.insert(key, invite);
        }
        self.stats.invites += 1;
        *self.invited.entry(short(&[email.as_bytes()])).or_default() += 1;
        if !self.invites.insert(invite) {
            self.stats.duplicate_invites += 1;
        }
        calls::created(body)
    }
}

/// What stands for these pieces, one behind the other.
pub(super) fn short(pieces: &[&[u8]]) -> Short {
    let mut digest = Sha256::new();
    for piece in pieces {
        digest.update((piece.len() as u64).to_be_bytes());
        digest.update(piece);
    }
    let mut short = Short::default();
    short.copy_from_slice(&digest.finalize()[..16]);
    short
}
