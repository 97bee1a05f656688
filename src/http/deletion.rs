//! `DELETE /v2/batches/ID`: a finished batch is gone for good, and a receipt says so.

use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json},
    request::Request,
};
use crate::{
    model::BatchId,
    operations::{batches, views::deletion::ReceiptView},
};

pub(super) async fn delete(id: BatchId, request: Request) -> Answer {
    let receipt = blocking(move || {
        let caller = request.caller()?;
        let batch = caller.batch(request.appliance(), id)?;
        Ok(ReceiptView::from(batches::delete(request.env(), &request.actor(&caller), &batch)?))
    });
    json(StatusCode::OK, &receipt.await?)
}
