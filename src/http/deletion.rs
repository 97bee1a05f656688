//! `DELETE /v2/batches/ID`: a finished batch is gone for good, and a receipt says so.

use schemars::JsonSchema;
use serde::Serialize;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    problem::{Problem, ProblemCode},
    request::{Request, request},
};
use crate::{
    model::{BatchId, Timestamp},
    store::{
        audit,
        deletions::{self, Asked, Deletion, Receipt},
    },
};

/// What is left to say of a batch that was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReceiptView {
    /// The batch's name. Nothing is found under it any more.
    id: BatchId,
    /// Since when its data key is destroyed, and with it everything that was sealed under it.
    deleted_at: Timestamp,
    /// How many rows it had.
    rows: u32,
    /// When the last backup or replica is gone that can still hold it; null where none was taken in its time.
    backups_until: Option<Timestamp>,
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        let Receipt { id, deleted_at, rows, backups_until } = receipt;
        Self { id, deleted_at, rows, backups_until }
    }
}

/// How far a deletion is: its batch is gone already, what nobody can read any more goes behind it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletionView {
    /// The name that the batch had.
    id: BatchId,
    /// How many rows it had.
    rows: u32,
    /// How many of them are still to be removed.
    rows_left: u32,
}

impl From<Deletion> for DeletionView {
    fn from(deletion: Deletion) -> Self {
        Self { id: deletion.id, rows: deletion.rows, rows_left: deletion.rows_left }
    }
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "batches" / BatchId)
        .and(warp::delete())
        .and(request(&context))
        .and_then(|id, request| answer("/v2/batches/ID", delete(id, request)))
        .boxed()
}

async fn delete(id: BatchId, request: Request) -> Answer {
    let receipt = blocking(move || {
        let (appliance, caller) = (request.appliance(), request.caller()?);
        let batch = caller.batch(appliance, id)?.batch;
        let deed = request.deed(&caller, "batch.delete", id.to_string(), None);
        let kept = appliance.config.backup.copies_kept();
        let asked = appliance.store.write(move |tx| {
            let asked = deletions::begin(tx, id, kept)?;
            if let (Some(deed), Asked::Deleted(_)) = (&deed, &asked) {
                audit::note(tx, deed)?;
            }
            Ok(asked)
        })?;
        match asked {
            Asked::Deleted(receipt) => {
                tracing::info!(event = "batch.deleted", batch = %id, rows = receipt.rows, "batch deleted");
                appliance.forget_batch(batch);
                appliance.chores_bell.ring();
                Ok(ReceiptView::from(receipt))
            }
            Asked::Missing => Err(Problem::not_found("batch")),
            Asked::Unfinished(status) => Err(Problem::new(
                ProblemCode::Conflict,
                format!(
                    "The batch is {}; only a finished one can be deleted. Cancel it, or wait for its end; nothing was \
                     changed.",
                    status.as_str()
                ),
            )),
            Asked::Claimed => Err(Problem::new(
                ProblemCode::Conflict,
                "One of the batch's rows is being worked on; try again in a while. Nothing was changed.",
            )),
        }
    });
    json(StatusCode::OK, &receipt.await?)
}
