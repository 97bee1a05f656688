//! `POST /v2/batches/ID/upgrade`: a batch goes on by the present version of its workflow.

use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json},
    problem::{Problem, ProblemCode},
    request::Request,
};
use crate::{
    model::BatchId,
    operations::views::batch::BatchView,
    store::batches,
    work::upgrade::{self, Refused},
};

pub(super) async fn upgrade(id: BatchId, request: Request) -> Answer {
    let view = blocking(move || {
        let (appliance, operator) = (request.appliance(), request.operator()?);
        upgrade::upgrade(appliance, id, operator.deed(upgrade::DEED, id.to_string(), None)).map_err(problem)?;
        let batch = appliance.store.read(|connection| batches::find(connection, id))?;
        Ok(BatchView::of(appliance, batch.ok_or_else(|| Problem::not_found("batch"))?, true)?)
    });
    json(StatusCode::OK, &view.await?)
}

fn problem(refused: Refused) -> Problem {
    match refused {
        Refused::Missing => Problem::not_found("batch"),
        Refused::Store(error) => error.into(),
        Refused::Batch(error) => {
            tracing::error!(event = "batch.undecryptable", %error, "a batch cannot be opened");
            Problem::internal()
        }
        refused => Problem::new(ProblemCode::Conflict, format!("The batch keeps its workflow: {refused}.")),
    }
}
