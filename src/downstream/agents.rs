//! The ureq agent in use, and a fresh one when the dependency's name has moved.
//!
//! ureq keeps connections by name and not by address, so one that stays busy would stay at the old address for ever.
//! A fresh agent has no connections. Requests under way finish over those of the agent that they began with, which are
//! closed with the last of them.

use std::sync::{Mutex, PoisonError};

use ureq::Agent;

/// The agent in use.
pub(super) struct Agents {
    make: Box<dyn Fn() -> Agent + Send + Sync>,
    /// How often the name had moved, as far as is known.
    moves: Box<dyn Fn() -> u64 + Send + Sync>,
    current: Mutex<Current>,
}

struct Current {
    agent: Agent,
    /// How often the name had moved when it was made.
    moves: u64,
}

impl Agents {
    /// Makes agents by `make`: one now, and another whenever `moves` says another number.
    pub(super) fn new(
        make: impl Fn() -> Agent + Send + Sync + 'static,
        moves: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let current = Current { agent: make(), moves: moves() };
        Self { make: Box::new(make), moves: Box::new(moves), current: Mutex::new(current) }
    }

    /// For one request.
    pub(super) fn current(&self) -> Agent {
        let moves = (self.moves)();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.moves != moves {
            *current = Current { agent: (self.make)(), moves };
        }
        current.agent.clone()
    }
}
