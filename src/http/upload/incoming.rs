//! An upload under way: its body is read on the async side and checked on a blocking thread, with a bounded queue
//! between.

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::Span;

use super::{
    answers::{Outcome, Refusal},
    checking::{Checking, Told},
    head::{BodyKind, bad, parse_context},
};
use crate::{
    http::{
        access::revoked,
        body::{Body, BodyFeed, BrokenBody, body},
        form::{Form, Part},
        problem::{Problem, ProblemCode},
    },
    panics,
};

/// The largest `context`.
const LARGEST_CONTEXT: usize = 64 * 1024;
/// The longest file name that is kept, in characters.
const LONGEST_FILE_NAME: usize = 255;

/// What a body says besides its file.
#[derive(Default)]
pub(super) struct Said {
    pub file_name: Option<String>,
    pub context: Option<Map<String, Value>>,
}

/// Why a body was not taken to its end.
pub(super) enum Stopped {
    /// The checking side has heard enough, and knows why.
    Refused,
    /// It cannot be used.
    Unusable(Problem),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Unusable(problem)
    }
}

impl From<BrokenBody> for Stopped {
    fn from(error: BrokenBody) -> Self {
        Self::Unusable(broken(error))
    }
}

/// The feed of the body, and the thread that checks it.
pub(super) struct Incoming {
    feed: Option<BodyFeed>,
    told: oneshot::Sender<Told>,
    checking: JoinHandle<Result<Outcome, Refusal>>,
}

impl Incoming {
    pub(super) fn start(checking: Checking) -> Self {
        let (feed, reader) = body();
        let (told, tells) = oneshot::channel::<Told>();
        let span = Span::current();
        let checking =
            tokio::task::spawn_blocking(move || panics::contained(|| span.in_scope(|| checking.run(reader, tells))));
        Self { feed: Some(feed), told, checking }
    }

    pub(super) async fn take(&mut self, body: &mut Body, kind: BodyKind) -> Result<Said, Stopped> {
        match kind {
            BodyKind::Csv => self.take_raw(body).await,
            BodyKind::Form { boundary } => self.take_form(body, boundary).await,
        }
    }

    /// The whole body is the file.
    async fn take_raw(&mut self, body: &mut Body) -> Result<Said, Stopped> {
        while let Some(chunk) = body.next().await {
            self.push(chunk?).await?;
        }
        self.end_of_file().await;
        Ok(Said::default())
    }

    /// The part `file` of a form is the file; `context` may stand before or behind it.
    async fn take_form(&mut self, body: &mut Body, boundary: String) -> Result<Said, Stopped> {
        let mut form = Form::new(body, boundary);
        let mut said = Said::default();
        while let Some(mut part) = form.next_part().await? {
            match part.name() {
                Some("file") if self.feed.is_none() => return Err(bad("The form has two parts `file`.").into()),
                Some("file") => {
                    said.file_name = part.file_name().map(|name| name.chars().take(LONGEST_FILE_NAME).collect());
                    while let Some(chunk) = part.chunk().await? {
                        self.push(chunk).await?;
                    }
                    self.end_of_file().await;
                }
                Some("context") => said.context = Some(parse_context(&small(&mut part).await?)?),
                _ => return Err(bad("The form has a part that is neither `file` nor `context`.").into()),
            }
        }
        if self.feed.is_none() { Ok(said) } else { Err(bad("The form has no part `file`.").into()) }
    }

    async fn push(&self, chunk: Bytes) -> Result<(), Stopped> {
        match &self.feed {
            Some(feed) if feed.push(chunk).await => Ok(()),
            _ => Err(Stopped::Refused),
        }
    }

    async fn end_of_file(&mut self) {
        if let Some(feed) = self.feed.take() {
            feed.finish().await;
        }
    }

    /// The body was whole: the checking side finishes with what else is known.
    pub(super) async fn finish(self, said: Said, request: Value) -> Result<Outcome, Refusal> {
        // The checking side does not listen any more where it has refused the file.
        let _ = self.told.send(Told { said, request });
        joined(self.checking).await
    }

    /// The body was not taken to its end. Where the checking side refused the file, its reason is the one to tell; it
    /// may come late, because what was stored is cleared away before.
    pub(super) async fn abandon(self, stopped: Stopped) -> Refusal {
        let Self { feed, told, checking } = self;
        // A file that came whole has a verdict of its own, whatever is wrong behind it.
        let has_verdict = feed.is_none() || matches!(stopped, Stopped::Refused) || checking.is_finished();
        drop((feed, told));
        match (joined(checking).await, stopped) {
            (Err(refusal), _) if has_verdict && !matches!(refusal, Refusal::Untold) => refusal,
            (_, Stopped::Unusable(problem)) => problem.into(),
            (_, Stopped::Refused) => bad("The body goes on behind the end of the file.").into(),
        }
    }
}

/// The whole content of the part `context`.
async fn small(part: &mut Part<'_>) -> Result<Vec<u8>, Stopped> {
    let mut text = Vec::new();
    while let Some(chunk) = part.chunk().await? {
        if text.len() + chunk.len() > LARGEST_CONTEXT {
            return Err(Problem::new(ProblemCode::TooLarge, "`context` is too large.").into());
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

async fn joined(checking: JoinHandle<Result<Outcome, Refusal>>) -> Result<Outcome, Refusal> {
    checking.await.unwrap_or_else(|error| {
        // Not the error itself: it quotes what a panic said.
        let panicked = error.is_panic();
        tracing::error!(event = "upload.ended_abnormally", panicked, "an upload ended abnormally");
        Err(Problem::internal().into())
    })
}

fn broken(error: BrokenBody) -> Problem {
    match error {
        BrokenBody::Broken => bad("The upload broke off."),
        BrokenBody::Revoked => revoked(),
        BrokenBody::Form => bad("The form is broken."),
        BrokenBody::Frame => Problem::new(ProblemCode::TooLarge, "The form holds too much besides its parts' content."),
        BrokenBody::Paused => Problem::new(ProblemCode::RequestTimeout, "The upload paused for too long."),
        BrokenBody::Slow(slow) => {
            let detail = format!("The upload came too slowly ({slow}). Nothing of it was kept; gzip makes it smaller.");
            Problem::new(ProblemCode::RequestTimeout, detail)
        }
        BrokenBody::MadeWay => {
            let detail = "All uploads that may run at once were under way, and this one was so slow, or took so long, that it \
                          made way for somebody who had fewer. Nothing of it was kept: send it again, gzipped if it was not.";
            Problem::new(ProblemCode::RequestTimeout, detail)
        }
    }
}
