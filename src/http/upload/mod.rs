//! `POST` of a CSV: raw or as a form, inflated or gzipped, streamed into [`crate::upload`].
//!
//! `head` is what is said in front of the body, `places` says how many there may be, `incoming` takes the body, `checking` is the thread that checks and
//! stores it, `answers` is what the caller gets, `all_errors` where that is a file, of which `error_files` says how many there
//! may be. Where a file is refused before its end, the rest is read and thrown away for a while, so that the caller gets to see
//! why.

mod all_errors;
mod answers;
mod checking;
mod error_files;
mod head;
mod incoming;
mod places;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::head::understand as understand_head;
pub(super) use self::{answers::Valid, head::Options};
use self::{answers::key_in_use, checking::Checking, head::Head, incoming::Incoming};
pub use self::{
    error_files::ErrorFiles,
    places::{NoPlace, Places},
};
use super::{
    Context,
    access::{not_for_client, unauthorized},
    answer::{Answer, blocking},
    body::{Body, BrokenBody, limited, linger},
    problem::{Problem, ProblemCode},
    request::Request,
    small_json::Pieces,
};
use crate::{model::quota::UPLOADS_AT_ONCE, upload::once::HeldKey};

/// More than the parts of a form besides its file can have, and the frame of a gzip.
const LARGEST_FRAME: u64 = 1 << 20;
/// When a caller should come again whose upload found no place.
const BUSY_RETRY_SECONDS: u64 = 5;

/// Answers an upload for this workflow.
pub(super) async fn upload(workflow: String, request: Request, body: Pieces) -> Answer {
    let appliance = request.context.appliance.clone();
    let answered = receive(workflow.clone(), request, limited(body)).await;
    appliance.metrics.uploads.answered(&workflow, answers::outcome(&answered));
    answered
}

async fn receive(workflow: String, request: Request, body: Body) -> Answer {
    let (client, right, badge) = {
        let request = request.clone();
        let known =
            move || Ok((request.caller()?.client()?, request.right()?, request.badge().ok_or_else(unauthorized)?));
        blocking(known).await?
    };
    let body: Body = Box::pin(right.guard(body, Some(Err(BrokenBody::Revoked))));
    if !client.may_use(&workflow) {
        return Err(not_for_client(&workflow));
    }
    let context = &request.context;
    let at_once = client.quotas.over(context.appliance.config.quotas).uploads_at_once;
    let upload_place = context.uploads.take(client.client, at_once).await.map_err(|why| match why {
        NoPlace::OfAll => busy("As many uploads as may run at once are under way."),
        NoPlace::OfClient => busy(&format!(
            "{at_once} uploads of this client are under way, as many as it may have (`{UPLOADS_AT_ONCE}`)."
        )),
    })?;
    let mut body = upload_place.watched(body);
    let head = Head::of(&request)?;
    let errors_place = if head.errors_as_csv { context.error_files.take(client.client) } else { None };
    let is_crowded_out = head.errors_as_csv && errors_place.is_none();
    if let Some(max_bytes) = announces_too_much(context, &workflow, &head) {
        linger(body).await;
        return Err(answers::too_large(max_bytes));
    }
    let mut incoming = Incoming::start(Checking {
        appliance: context.appliance.clone(),
        key: held_key(context, &workflow, client.client, &head)?,
        workflow,
        client,
        gzip: head.gzip,
        announced: head.announced,
        validate_only: head.options.validate_only,
        allow_duplicate: head.options.allow_duplicate,
        errors_as_csv: errors_place.is_some(),
        badge,
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
        Err(refusal) => {
            let answered = refusal.answer(errors_place, &request);
            answered.map_err(|problem| if is_crowded_out { answers::crowded_out(problem) } else { problem })
        }
    }
}

/// The workflow's limit, where what was announced cannot be a file within it, whatever is in it. A form has something
/// around its file, and gzip makes what cannot be compressed a little longer.
fn announces_too_much(context: &Context, workflow: &str, head: &Head) -> Option<u64> {
    let max_bytes = context.appliance.config.workflows.get(workflow)?.max_bytes;
    (head.announced > max_bytes + max_bytes / 1_000 + LARGEST_FRAME).then_some(max_bytes)
}

fn busy(taken: &str) -> Problem {
    Problem::new(ProblemCode::Busy, taken).retry_after(BUSY_RETRY_SECONDS)
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
