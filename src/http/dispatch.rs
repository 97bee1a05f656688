//! `/ops/v1/dispatch`: what the clock that triggers dispatch asks for, and the one big switch.

use schemars::JsonSchema;
use warp::http::StatusCode;

use super::{
    access::Caller,
    answer::{Answer, blocking, json},
    list::listed,
    request::Request,
    small_json::{Reason, Sent},
};
use crate::{
    model::AskedBy,
    operations::{
        dispatch::{self, DISPATCH},
        views::paging::Paging,
    },
    store::grants::{self, Run},
};

/// A page of dispatch runs.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, and made entry by entry")]
pub(super) struct RunList {
    runs: Vec<Run>,
    next: Option<String>,
}

pub(super) async fn run(request: Request) -> Answer {
    let ran = blocking(move || {
        let caller = request.uncounted_caller()?;
        let deed = match &caller {
            // The clock's runs are in the list of runs; that somebody made one by hand is in the audit.
            Caller::Dispatcher => None,
            other => {
                other.clone().operator()?;
                Some(request.actor(&caller).deed("dispatch.run", DISPATCH, None))
            }
        };
        Ok(request.context.dispatcher.run(request.appliance(), AskedBy::Call, deed)?)
    });
    json(StatusCode::OK, &ran.await?)
}

pub(super) async fn runs(request: Request) -> Answer {
    let ask = |request: &Request| {
        request.caller()?.operator()?;
        let paging = request.query::<Paging>()?;
        Ok((paging.after()?.unwrap_or(i64::MAX), paging.most()?))
    };
    listed(request, "runs", ask, |request, &(before, most), page| {
        let found = request.appliance().store.read(|connection| grants::runs(connection, before, most))?;
        let next = found.next(|run| run.run);
        page.fill(found.entries, next, |run| run.run, Ok)
    })
    .await
}

pub(super) async fn pause(request: Request, sent: Sent<Reason>) -> Answer {
    let reason = sent.reason(&request).await?;
    let state = blocking(move || {
        let operator = request.operator()?;
        Ok(dispatch::pause(request.env(), &operator, reason?.reason)?)
    });
    json(StatusCode::OK, &state.await?)
}

pub(super) async fn resume(request: Request, sent: Sent<Reason>) -> Answer {
    let reason = sent.reason(&request).await?;
    let state = blocking(move || {
        let operator = request.operator()?;
        Ok(dispatch::resume(request.env(), &operator, reason?.reason)?)
    });
    json(StatusCode::OK, &state.await?)
}
