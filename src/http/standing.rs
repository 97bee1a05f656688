//! Requests that take long: uploads, downloads, streams of events. Whatever one came with, a key, a token, a session, is
//! looked at again all the while: where it is taken away, or its time is over, the request ends with it.
//!
//! What is looked at is the database, so it makes no difference whether this server took it away or a command beside it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{Stream, StreamExt, stream::unfold};
use tokio::sync::watch;

use super::{
    Context,
    access::{Badge, Caller},
    answer::blocking,
};
use crate::store::StoreError;

/// The requests that take long.
#[derive(Clone, Default)]
pub struct Standings(Arc<Mutex<Standing>>);

#[derive(Default)]
struct Standing {
    next: u64,
    requests: HashMap<u64, Held>,
}

struct Held {
    badge: Badge,
    caller: Caller,
    ended: watch::Sender<bool>,
}

/// What a request stands on, for as long as it is under way.
pub struct Right {
    number: u64,
    standings: Standings,
    ended: watch::Receiver<bool>,
}

impl Standings {
    /// Has it looked at what a request came with.
    pub(super) fn hold(&self, badge: Badge, caller: Caller) -> Right {
        let (ended, hears) = watch::channel(false);
        let mut standing = self.lock();
        standing.next += 1;
        let number = standing.next;
        standing.requests.insert(number, Held { badge, caller, ended });
        Right { number, standings: self.clone(), ended: hears }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be looked at, each once.
    fn badges(&self) -> Vec<Badge> {
        let standing = self.lock();
        let mut badges: Vec<_> = standing.requests.values().map(|held| held.badge).collect();
        badges.sort_unstable();
        badges.dedup();
        badges
    }

    /// Ends what stands on something that is good no more, or good for less. What came meanwhile is looked at next time.
    fn end(&self, good: &HashMap<Badge, Option<Caller>>) {
        let mut ended = 0;
        for held in self.lock().requests.values() {
            let Some(holder) = good.get(&held.badge) else { continue };
            if !holder.as_ref().is_some_and(|holder| holder.may_what(&held.caller)) {
                // It may have heard so already, and not be gone yet.
                ended += u32::from(!held.ended.send_replace(true));
            }
        }
        if ended > 0 {
            tracing::info!(event = "requests.revoked", requests = ended, "requests ended with what they came with");
        }
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        self.standings.lock().requests.remove(&self.number);
    }
}

impl Right {
    /// Returns when it has ended.
    pub(super) async fn ended(&mut self) {
        // The other end goes only after this one.
        let _ = self.ended.wait_for(|ended| *ended).await.is_ok();
    }

    /// What comes of a stream until it has ended; then this, where there is something, and nothing more.
    pub(super) fn guard<T>(self, stream: impl Stream<Item = T>, last: Option<T>) -> impl Stream<Item = T> {
        let guarded = unfold(Some((Box::pin(stream), self, last)), |state| async {
            let (mut stream, mut right, last) = state?;
            tokio::select! {
                biased;
                () = right.ended() => Some((last?, None)),
                item = stream.next() => Some((item?, Some((stream, right, last)))),
            }
        });
        guarded.fuse()
    }
}

/// Looks at them once.
pub(super) async fn look(context: &Context) {
    let badges = context.door.standings.badges();
    if badges.is_empty() {
        return;
    }
    let appliance = context.appliance.clone();
    let looked = blocking(move || {
        let (access, now) = (&appliance.config.access, appliance.clock.now());
        Ok(appliance.store.read(|connection| {
            let holder = |badge: Badge| Ok::<_, StoreError>((badge, badge.holder(access, connection, now)?));
            badges.into_iter().map(holder).collect::<Result<HashMap<_, _>, _>>()
        })?)
    });
    // The log has what went wrong. Nothing ends because the database is busy.
    if let Ok(good) = looked.await {
        context.door.standings.end(&good);
    }
}
