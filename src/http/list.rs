//! Answers that can be long: lists, rows, everything at a glance. They are made when there is room for them
//! ([`super::reads`]), never longer than that, and hold it until their caller has taken them.
//!
//! A page of a list ends where its room does, so that it may be short while there is a next one. What is longer than the
//! usual room by itself, a row of a megabyte, is made once more with all that one caller can have.

use std::{fmt::Display, io, sync::Arc};

use serde::Serialize;
use warp::http::StatusCode;

use super::{
    Context,
    answer::{Answer, blocking, json_of, not_written, too_long},
    problem::Problem,
    reads::LARGEST_PAGE,
    request::Request,
};
use crate::store::StoreError;

/// What an answer has room for at first. A thousand rows of the usual width are half of that.
const USUAL_BYTES: usize = 2 << 20;
/// Of this, what the end of a page takes, with its cursor.
const END_BYTES: usize = 1 << 10;

/// Why an answer was not made.
pub(super) enum Unmade {
    /// It is longer than there is room for.
    TooLong,
    Problem(Problem),
}

impl From<Problem> for Unmade {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Unmade {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

/// JSON of so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    room: usize,
    is_over: bool,
}

impl Bounded {
    fn of(room: usize) -> Self {
        Self { bytes: Vec::new(), room, is_over: false }
    }

    /// Writes all of it, or nothing.
    fn add(&mut self, value: &impl Serialize) -> Result<(), Unmade> {
        let before = self.bytes.len();
        serde_json::to_writer(&mut *self, value).map_err(|error| {
            self.bytes.truncate(before);
            if std::mem::take(&mut self.is_over) { Unmade::TooLong } else { not_written(&error).into() }
        })
    }
}

impl io::Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + data.len() > self.room {
            self.is_over = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A page of a list in the making: `{"NAME": […], "next": CURSOR}`.
pub(super) struct Page {
    json: Bounded,
    is_empty: bool,
}

impl Page {
    fn of(name: &'static str, room: usize) -> Self {
        let mut json = Bounded::of(room - END_BYTES);
        json.bytes.extend_from_slice(format!("{{\"{name}\":[").as_bytes());
        Self { json, is_empty: true }
    }

    /// Puts entries to it, as they are shown, for as long as there is room; behind which one the next page begins. That is
    /// `next` where all of them are there.
    pub(super) fn fill<T, C: Display, V: Serialize>(
        &mut self,
        entries: impl IntoIterator<Item = T>,
        next: Option<C>,
        cursor: impl Fn(&T) -> C,
        view: impl Fn(T) -> Result<V, StoreError>,
    ) -> Result<Option<String>, Unmade> {
        let mut last = None;
        for entry in entries {
            let behind = cursor(&entry);
            if !self.add(&view(entry)?)? {
                return Ok(last.map(|last: C| last.to_string()));
            }
            last = Some(behind);
        }
        Ok(next.map(|next| next.to_string()))
    }

    /// One more entry, if there is room for it.
    fn add(&mut self, entry: &impl Serialize) -> Result<bool, Unmade> {
        if !self.is_empty {
            self.json.bytes.push(b',');
        }
        match self.json.add(entry) {
            Ok(()) => {
                self.is_empty = false;
                Ok(true)
            }
            Err(Unmade::TooLong) if !self.is_empty => {
                self.json.bytes.pop();
                Ok(false)
            }
            Err(unmade) => Err(unmade),
        }
    }

    fn ended(mut self, next: Option<String>) -> Result<Vec<u8>, Unmade> {
        self.json.room += END_BYTES;
        self.json.bytes.extend_from_slice(b"],\"next\":");
        self.json.add(&next)?;
        self.json.bytes.push(b'}');
        Ok(self.json.bytes)
    }
}

/// A page of a list. `ask` finds out who wants what, so that nobody takes room who may not have it; `read` fills the page.
pub(super) async fn listed<Q: Send + Sync + 'static>(
    request: Request,
    name: &'static str,
    ask: impl FnOnce(&Request) -> Result<Q, Problem> + Send + 'static,
    read: impl Fn(&Request, &Q, &mut Page) -> Result<Option<String>, Unmade> + Send + Sync + 'static,
) -> Answer {
    let context = request.context.clone();
    let (request, whose, asked) = blocking(move || {
        let asked = ask(&request)?;
        let whose = request.caller()?.sees()?;
        Ok((request, whose, asked))
    })
    .await?;
    made(&context, whose, move |room| {
        let mut page = Page::of(name, room);
        let next = read(&request, &asked, &mut page)?;
        page.ended(next)
    })
    .await
}

/// Anything else that may be long, for whoever it is.
pub(super) async fn long_json<T: Serialize>(
    context: &Context,
    whose: Option<i64>,
    make: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
) -> Answer {
    made(context, whose, move |room| {
        let mut json = Bounded::of(room);
        json.add(&make()?)?;
        Ok(json.bytes)
    })
    .await
}

/// Makes an answer on a thread that may block, once there is room for it.
async fn made(
    context: &Context,
    whose: Option<i64>,
    make: impl Fn(usize) -> Result<Vec<u8>, Unmade> + Send + Sync + 'static,
) -> Answer {
    let make = Arc::new(make);
    for room in [USUAL_BYTES, LARGEST_PAGE] {
        let place = context.reads.page(whose, room).await?;
        let make = make.clone();
        let body = place.make(move || match make(room) {
            Ok(body) => Ok(Some(body)),
            Err(Unmade::TooLong) => Ok(None),
            Err(Unmade::Problem(problem)) => Err(problem),
        });
        if let Some(body) = body.await? {
            return Ok(json_of(StatusCode::OK, place.hold(body)));
        }
    }
    Err(too_long())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn page(room: usize, entries: &[&str], next: Option<usize>) -> Result<Value, Unmade> {
        let mut page = Page::of("names", room);
        let entries = entries.iter().enumerate();
        let next = page.fill(entries, next, |(place, _)| *place, |(_, name)| Ok(*name))?;
        let body = page.ended(next)?;
        assert!(body.len() <= room);
        Ok(serde_json::from_slice(&body).expect("JSON"))
    }

    #[test]
    fn a_page_ends_before_what_it_has_no_room_for() {
        let (long, room) = ("\u{1}".repeat(100), END_BYTES + 650);
        let is = |page: Result<Value, Unmade>, told: Value| assert_eq!(page.ok(), Some(told));
        is(page(room, &[&long], None), json!({ "names": [long], "next": null }));
        is(page(room, &["a", &long, "b"], Some(7)), json!({ "names": ["a", long, "b"], "next": "7" }));
        is(page(room, &["a", &long, &long], None), json!({ "names": ["a", long], "next": "1" }));
        is(page(room, &[], None), json!({ "names": [], "next": null }));
        let longer = long.repeat(2);
        assert!(matches!(page(room, &[&longer], None), Err(Unmade::TooLong)), "by itself it needs more room");
    }
}
