//! `POST` of a CSV: raw or as a form, inflated or gzipped, streamed into [`crate::upload`].
//!
//! `head` is what is said in front of the body, `incoming` takes the body, `checking` is the thread that checks and
//! stores it, `answers` is what the caller gets, `all_errors` where that is a file. Where a file is refused before its
//! end, the rest is read and thrown away for a while, so that the caller gets to see why.

mod all_errors;
mod answers;
mod checking;
mod head;
mod incoming;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::{Filter, filters::BoxedFilter, path::FullPath, reply::Response};

pub(super) use self::{answers::Valid, head::Options};
use self::{answers::key_in_use, checking::Checking, head::Head, incoming::Incoming};
use super::{
    Context,
    answer::{Answer, answer, blocking},
    body::{Body, limited, linger},
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::upload::once::HeldKey;

/// When a caller should come again whose upload found no place.
const BUSY_RETRY_SECONDS: u64 = 5;

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let known = context.clone();
    let path = warp::path::full().and_then(move |path: FullPath| {
        let found = known.appliance.config.workflows.values().find(|it| it.upload_path == path.as_str());
        let found = found.map(|workflow| workflow.name.clone());
        async move { found.ok_or_else(warp::reject::not_found) }
    });
    path.and(warp::post())
        .and(request(&context))
        .and(warp::body::stream())
        .and_then(|workflow, request, stream| answer("upload", counted(workflow, request, limited(stream))))
        .boxed()
}

async fn counted(workflow: String, request: Request, body: Body) -> Answer {
    let appliance = request.context.appliance.clone();
    let answered = receive(workflow.clone(), request, body).await;
    appliance.metrics.uploads.answered(&workflow, answers::outcome(&answered));
    answered
}

async fn receive(workflow: String, request: Request, mut body: Body) -> Answer {
    let client = {
        let request = request.clone();
        blocking(move || request.caller()?.client()).await?
    };
    let context = &request.context;
    let _place = place(&context.uploads, "As many uploads as may run at once are under way.")?;
    let head = Head::of(&request)?;
    let errors_place = match head.errors_as_csv {
        true => Some(place(&context.error_files, "As many files of errors as may be sent at once are on their way.")?),
        false => None,
    };
    let mut incoming = Incoming::start(Checking {
        appliance: context.appliance.clone(),
        key: held_key(context, &workflow, client.client, &head)?,
        workflow,
        client,
        gzip: head.gzip,
        announced: head.announced,
        validate_only: head.options.validate_only,
        allow_duplicate: head.options.allow_duplicate,
        errors_as_csv: head.errors_as_csv,
    });
    let outcome = match incoming.take(&mut body, head.body).await {
        Ok(mut said) => {
            said.context = said.context.or(head.context);
            incoming.finish(said, head.request).await
        }
        Err(stopped) => {
            linger(body).await;
            Err(incoming.abandon(stopped).await)
        }
    };
    match outcome {
        Ok(outcome) => outcome.answer(),
        Err(refusal) => refusal.answer(errors_place),
    }
}

/// One of a limited number of places.
fn place(places: &Arc<Semaphore>, taken: &str) -> Result<OwnedSemaphorePermit, Problem> {
    let place = places.clone().try_acquire_owned();
    place.map_err(|_| Problem::new(ProblemCode::Busy, taken).retry_after(BUSY_RETRY_SECONDS))
}

/// The upload's `Idempotency-Key`, which nobody else can use meanwhile. A check only stores nothing that could be
/// done twice, and needs none.
fn held_key(context: &Context, workflow: &str, client: i64, head: &Head) -> Result<Option<HeldKey>, Problem> {
    let path = context.appliance.config.workflows.get(workflow).map(|workflow| workflow.upload_path.as_str());
    match (&head.key, path) {
        (Some(key), Some(path)) if !head.options.validate_only => {
            HeldKey::take(&context.appliance, client, path, key).map(Some).ok_or_else(key_in_use)
        }
        _ => Ok(None),
    }
}
