//! `/ops/v1/clients/NAME/webhook` and `/deliveries`: where a client is told that a batch has finished, and what came of it.

use schemars::JsonSchema;
use serde::Deserialize;
use warp::http::StatusCode;

use super::{
    answer::{Answer, blocking, json, no_content},
    list::listed,
    problem::{Problem, ProblemCode},
    request::Request,
    small_json::{JsonBody, Sent, required},
};
use crate::{
    announce::Target,
    operations::{
        views::{
            paging::Paging,
            webhook::{DeliveryList, WebhookView},
        },
        webhooks::{self, WebhookFault, named},
    },
    store::webhooks::find,
};

impl From<WebhookFault> for Problem {
    fn from(fault: WebhookFault) -> Self {
        match fault {
            WebhookFault::NoClient => Self::not_found("client"),
            WebhookFault::Missing => Self::not_found("webhook"),
            WebhookFault::Address(_) => Self::sentence(ProblemCode::BadRequest, &fault),
            WebhookFault::Store(error) => error.into(),
        }
    }
}

/// Where a client wants to be told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    url: String,
}

impl JsonBody for Address {
    const SHAPE: &'static str = "{\"url\": TEXT}";
}

pub(super) async fn show(name: String, request: Request) -> Answer {
    let view = blocking(move || {
        request.caller()?.operator()?;
        let client = named(request.env(), &name)?;
        let found = request.appliance().store.read(|connection| find(connection, client.client))?;
        let found = found.ok_or_else(|| Problem::not_found("webhook"))?;
        // One whose key is lost is there all the same.
        let target = Target::open(&request.appliance().ring(), client.client, found.sealed);
        let url = target.map_or_else(|_| "…".to_owned(), |target| target.shown());
        Ok(WebhookView { url, created_at: found.created_at })
    });
    json(StatusCode::OK, &view.await?)
}

pub(super) async fn put(name: String, request: Request, sent: Sent<Address>) -> Answer {
    let told = sent.told(&request).await?;
    let new = blocking(move || {
        let admin = request.admin()?;
        Ok(webhooks::set(request.appliance(), &admin, &name, required(told)?.url)?)
    });
    json(StatusCode::OK, &new.await?)
}

pub(super) async fn delete(name: String, request: Request) -> Answer {
    blocking(move || {
        let admin = request.admin()?;
        Ok(webhooks::remove(request.env(), &admin, &name)?)
    })
    .await?;
    no_content()
}

pub(super) async fn list(name: String, request: Request) -> Answer {
    let ask = move |request: &Request| {
        request.caller()?.operator()?;
        let paging = request.query::<Paging>()?;
        let (most, before) = (paging.most()?, paging.after()?.unwrap_or(i64::MAX));
        Ok((named(request.env(), &name)?.client, before, most))
    };
    listed(request, "deliveries", ask, |request, &(client, before, most), page| {
        let found = DeliveryList::read(&request.appliance().store, client, before, most)?;
        page.fill(found.deliveries, found.next, |it| it.delivery.to_string(), Ok)
    })
    .await
}
