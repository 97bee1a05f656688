//! `GET /v2/batches/ID/events`: a batch as it changes, as server-sent events (WHATWG HTML, 9.2).
//!
//! The first event comes at once, and each is the whole batch, so nothing is lost to whoever comes late or again. The
//! stream ends by itself behind the event with which the batch is finished, after [`LONGEST`], with the key or session that it
//! was opened with, and when the server ends. A browser's `EventSource` then comes again and says which event it saw last; where that was the end of a
//! batch, it is told by a 204 that nothing will follow.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use tokio::time::{Instant, sleep};
use tracing::{Instrument, Span};
use warp::{
    Reply,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    answer::{Answer, blocking},
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::{
    appliance::Appliance,
    model::BatchId,
    operations::views::batch::BatchView,
    store::batches::{self, Batch},
};

/// How often a batch is looked at: no stream tells more events than that.
const EVERY: Duration = Duration::from_millis(500);
/// After so long a batch that did not change may wait for something else all the same.
const OUTLOOK_EVERY: Duration = Duration::from_secs(5);
/// After so long without an event a comment is sent, so that no proxy takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream ends after so long, whatever becomes of the batch.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// When an `EventSource` comes again whose stream ended.
const COME_AGAIN: Duration = Duration::from_secs(3);
/// Streams that may be open at once: of all callers, and of one of them.
const MOST_STREAMS: usize = 256;
const MOST_OF_ONE: usize = 32;
/// When a caller should come again who found no place.
const BUSY_RETRY_SECONDS: u64 = 10;

pub(super) async fn open(id: BatchId, request: Request) -> Answer {
    let streams = request.context.streams.clone();
    let appliance = request.context.appliance.clone();
    let seen = request.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let (whose, batch, right) = blocking(move || {
        let caller = request.caller()?;
        Ok((caller.sees()?, caller.batch(request.appliance(), id)?, request.right()?))
    })
    .await?;
    if batch.status.is_finished() && seen == Some(mark(&batch)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = streams.take(whose)?;
    let watch = Watch {
        appliance,
        id,
        for_operator: whose.is_none(),
        begun: Instant::now(),
        told: None,
        last_sent: Instant::now(),
        ended: false,
        span: Span::current(),
        _place: place,
    };
    let mut response = warp::reply::stream(right.guard(watch.events(), None)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx collects what it passes on, unless it is told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The streams that are open, by caller: a client's key in the database, or `None` for operators.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<Option<i64>, usize>>>);

/// A stream's place among them.
struct Place {
    streams: Streams,
    whose: Option<i64>,
}

impl Streams {
    fn take(&self, whose: Option<i64>) -> Result<Place, Problem> {
        let mut open = self.lock();
        let of_all: usize = open.values().sum();
        let of_one = open.get(&whose).copied().unwrap_or(0);
        if of_all >= MOST_STREAMS || of_one >= MOST_OF_ONE {
            let detail = "As many streams of events as may be open at once are open.";
            return Err(Problem::new(ProblemCode::Busy, detail).retry_after(BUSY_RETRY_SECONDS));
        }
        open.insert(whose, of_one + 1);
        Ok(Place { streams: self.clone(), whose })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Option<i64>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if let Some(count) = open.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.whose);
            }
        }
    }
}

/// A batch that somebody watches.
struct Watch {
    appliance: Arc<Appliance>,
    id: BatchId,
    for_operator: bool,
    begun: Instant,
    told: Option<Told>,
    last_sent: Instant,
    ended: bool,
    /// The request's, so that what goes wrong later is logged under its id.
    span: Span,
    _place: Place,
}

/// What was seen last, and told.
#[derive(Clone)]
struct Told {
    batch: Batch,
    view: BatchView,
    at: Instant,
}

/// What a look brings.
enum Seen {
    Event(Told),
    /// Nothing that is worth an event.
    Same(Told),
    /// The batch is deleted.
    Gone,
}

impl Watch {
    fn events(self) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + Sync + 'static {
        unfold(self, |mut watch| async {
            let text = watch.next().await?;
            watch.last_sent = Instant::now();
            Some((Ok(Bytes::from(text)), watch))
        })
    }

    /// What is to be sent next, when it is time for it; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.told.is_some() {
                if self.ended {
                    return None;
                }
                sleep(EVERY).await;
            }
            if self.appliance.closing.is_closed() || self.begun.elapsed() > LONGEST {
                return None;
            }
            match self.look().await {
                Ok(Seen::Gone) => return None,
                Ok(Seen::Event(told)) => {
                    self.ended = told.batch.status.is_finished();
                    let first = self.told.is_none();
                    let event = event(&told, first)?;
                    self.told = Some(told);
                    return Some(event);
                }
                Ok(Seen::Same(told)) => self.told = Some(told),
                // The log has it. Whoever watches sees the next change all the same.
                Err(_) if self.told.is_some() => {}
                Err(_) => return None,
            }
            if self.last_sent.elapsed() >= HEARTBEAT {
                return Some(": nothing new\n\n".to_owned());
            }
        }
    }

    async fn look(&self) -> Result<Seen, Problem> {
        let (appliance, id, for_operator, told) =
            (self.appliance.clone(), self.id, self.for_operator, self.told.clone());
        blocking(move || {
            let Some(batch) = appliance.store.read(|connection| batches::find(connection, id))? else {
                return Ok(Seen::Gone);
            };
            match told {
                Some(told) if moved(&batch) == moved(&told.batch) && told.at.elapsed() < OUTLOOK_EVERY => {
                    Ok(Seen::Same(told))
                }
                told => {
                    let view = BatchView::of(&appliance, batch.clone(), for_operator)?;
                    let is_news = told.is_none_or(|told| view.says_more_than(&told.view));
                    let told = Told { batch, view, at: Instant::now() };
                    Ok(if is_news { Seen::Event(told) } else { Seen::Same(told) })
                }
            }
        })
        .instrument(self.span.clone())
        .await
    }
}

/// Everything of a batch that can move.
fn moved(batch: &Batch) -> impl PartialEq + use<> {
    let flags = (batch.paused_at, batch.client_paused_at, batch.cancelled_at);
    (batch.status, batch.counts, batch.extracted, flags, batch.finished_at)
}

/// Which event it is: the end of a batch that ends once more, after a retry, is another one.
fn mark(batch: &Batch) -> String {
    batch.finished_at.map_or_else(|| "open".to_owned(), |at| at.to_string())
}

fn event(told: &Told, first: bool) -> Option<String> {
    let data = serde_json::to_string(&told.view).ok()?;
    let retry = if first { format!("retry: {}\n", COME_AGAIN.as_millis()) } else { String::new() };
    Some(format!("{retry}event: batch\nid: {}\ndata: {data}\n\n", mark(&told.batch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_for_one_and_for_all_and_come_back() {
        let streams = Streams::default();
        let mut places: Vec<_> = (0..MOST_OF_ONE).map(|_| streams.take(Some(1)).expect("a place")).collect();
        assert!(streams.take(Some(1)).is_err());
        let others =
            |streams: &Streams| (2_i64..).map_while(|client| streams.take(Some(client)).ok()).collect::<Vec<_>>();
        let of_others = others(&streams);
        assert_eq!(of_others.len(), MOST_STREAMS - MOST_OF_ONE);
        assert!(streams.take(None).is_err());
        drop(places.pop());
        let again = streams.take(Some(1)).expect("the place is free again");
        drop((places, of_others, again));
        assert!(streams.lock().is_empty());
    }
}
