//! `DELETE /v2/batches/ID`: a finished batch is gone for good, and a receipt says so.

use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    request::{Request, client_request},
};
use crate::{
    model::{BatchId, Scope},
    operations::{batches, views::deletion::ReceiptView},
};

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "batches" / BatchId)
        .and(warp::delete())
        .and(client_request(&context, Scope::Manage))
        .and_then(|id, request| answer("/v2/batches/ID", delete(id, request)))
        .boxed()
}

async fn delete(id: BatchId, request: Request) -> Answer {
    let receipt = blocking(move || {
        let caller = request.caller()?;
        let batch = caller.batch(request.appliance(), id)?;
        Ok(ReceiptView::from(batches::delete(request.env(), &request.actor(&caller), &batch)?))
    });
    json(StatusCode::OK, &receipt.await?)
}
