//! A hook is told, message by message, each until it is taken.

use std::time::Duration;

use rand::RngExt;

use super::message::{message, test_message};
use crate::{
    announce::post::{Poster, Refused},
    appliance::Appliance,
    clock::Clock,
    config::{Alerts, Hook},
    heartbeat,
    store::{StoreError, alerts},
};

/// For a whole attempt: a receiver that hangs must not hold up the end of the server for long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two messages to a hook, which is also how often it is looked for one: Slack takes one a second.
const PACE: Duration = Duration::from_secs(1);
/// The waits after each attempt that was not taken; behind the last one that goes on.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
];
/// Each wait is made longer or shorter by up to this share.
const JITTER: f64 = 0.1;
/// The longest pause that a receiver can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// A message that was not taken so often, about a day long, is let go: others wait behind it.
const MOST_ATTEMPTS: u32 = 300;
/// What began and ended so long ago, and could not be told, is not told any more.
const OLD_NEWS: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells this hook what there is to tell, until the appliance closes.
pub fn tell(appliance: &Appliance, hook: &Hook) {
    let poster = Poster::new(TIMEOUT);
    let mut line = Line::default();
    while !appliance.closing.wait(line.wait) {
        if let Err(error) = tell_next(appliance, &poster, hook, &mut line) {
            tracing::error!(event = "hook.not_noted", hook = hook.name, %error, "what a hook is to be told could not be looked up or noted");
            line.wait = WAITS[1];
        }
        heartbeat::rest(line.wait);
    }
}

/// How it goes with a hook.
struct Line {
    /// Attempts in a row that were not taken.
    failures: u32,
    /// Until the next one.
    wait: Duration,
}

impl Default for Line {
    fn default() -> Self {
        Self { failures: 0, wait: PACE }
    }
}

impl Line {
    fn refused(&mut self, refused: &Refused) {
        let wait = WAITS.get(self.failures as usize).or(WAITS.last()).copied().unwrap_or(PACE);
        let spread = wait.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER));
        self.failures += 1;
        self.wait = spread.max(refused.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
    }
}

fn tell_next(appliance: &Appliance, poster: &Poster, hook: &Hook, line: &mut Line) -> Result<(), StoreError> {
    let old_news = appliance.clock.now().before(OLD_NEWS);
    let next = appliance.store.read(|connection| alerts::next_to_tell(connection, &hook.name, old_news))?;
    let Some((alert, state)) = next else {
        *line = Line::default();
        return Ok(());
    };
    let body = message(hook.format, &appliance.config.alerts.name, &alert, state);
    let (name, kind, state_name) = (&hook.name, alert.kind.as_str(), state.as_str());
    match poster.post(hook.url.expose(), &[], &body) {
        Ok(_) => {
            let attempts = line.failures + 1;
            tracing::info!(
                event = "hook.told",
                hook = name,
                alert = kind,
                state = state_name,
                attempts,
                "a hook was told of an alert"
            );
        }
        Err(refused) if line.failures + 1 >= MOST_ATTEMPTS => {
            let trouble = refused.trouble.what;
            tracing::error!(
                event = "hook.given_up",
                hook = name,
                alert = kind,
                state = state_name,
                trouble,
                "a hook was told in vain of an alert"
            );
        }
        Err(refused) => {
            line.refused(&refused);
            // Once for each outage of a receiver, and not for each attempt.
            if line.failures == 1 {
                let trouble = refused.trouble.what;
                tracing::warn!(
                    event = "hook.refused",
                    hook = name,
                    alert = kind,
                    trouble,
                    "a hook does not take an alert: it is tried again"
                );
            }
            return Ok(());
        }
    }
    *line = Line::default();
    let hook = hook.name.clone();
    appliance.store.write(move |tx| alerts::note_told(tx, &hook, alert.alert, state))
}

/// Sends one message to a hook that says nothing but that it arrives.
pub fn try_out(hook: &Hook, alerts: &Alerts, clock: &Clock) -> Result<u16, String> {
    let body = test_message(hook.format, &alerts.name, clock.now());
    Poster::new(TIMEOUT).post(hook.url.expose(), &[], &body).map_err(|refused| refused.trouble.what)
}
