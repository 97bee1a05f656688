//! `/ops/v1/clients/NAME/webhook` and `/deliveries`: where a client is told that a batch has finished, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batches::Paging,
    problem::{Problem, ProblemCode},
    request::{Request, request},
    small_json::{Told, required, small_json},
};
use crate::{
    announce::{self, without_query},
    appliance::Appliance,
    model::Timestamp,
    store::{
        Store, StoreError,
        audit::{self, Deed},
        clients::{self, Client},
        deliveries::{self, Delivery},
        webhooks,
    },
};

/// A webhook that was just set, with its signing secret, told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NewWebhook {
    /// The client.
    pub name: String,
    /// The address, as it was given.
    pub url: String,
    /// What deliveries are signed with.
    pub secret: String,
}

/// A webhook, as it may be shown.
#[derive(Serialize, JsonSchema)]
pub(super) struct WebhookView {
    /// The address, without its query.
    url: String,
    /// Since when.
    created_at: Timestamp,
}

/// A page of announcements.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryList {
    /// Newest first.
    pub deliveries: Vec<Delivery>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl DeliveryList {
    /// A client's announcements before `before`. Blocks.
    pub fn read(store: &Store, client: i64, before: i64, limit: u32) -> Result<Self, StoreError> {
        let deliveries = store.read(|connection| deliveries::page(connection, client, before, limit))?;
        let last = deliveries.last().filter(|_| deliveries.len() == limit as usize);
        Ok(Self { next: last.map(|last| last.delivery.to_string()), deliveries })
    }
}

/// Sets a client's webhook, with a new signing secret. Blocks.
pub fn set(appliance: &Appliance, client: &Client, url: String, deed: Deed) -> Result<NewWebhook, StoreError> {
    let (secret, told) = announce::new_secret();
    // Held until the commit, as for a batch's key.
    let ring = appliance.ring();
    let sealed = announce::seal(&ring, client.client, secret.as_bytes());
    let (of, to) = (client.client, url.clone());
    appliance.store.write(move |tx| {
        audit::note(tx, &deed)?;
        webhooks::set(tx, of, &to, &sealed)
    })?;
    Ok(NewWebhook { name: client.name.clone(), url, secret: told.to_string() })
}

/// Removes a client's webhook; `false` where it had none. What is not delivered yet is given up. Blocks.
pub fn remove(store: &Store, client: &Client, deed: Deed) -> Result<bool, StoreError> {
    let of = client.client;
    store.write(move |tx| {
        let removed = webhooks::remove(tx, of)?;
        if removed {
            audit::note(tx, &deed)?;
        }
        Ok(removed)
    })
}

/// Where a client wants to be told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    url: String,
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let webhook = || warp::path!("ops" / "v1" / "clients" / String / "webhook");
    let show = webhook()
        .and(warp::get())
        .and(request(&context))
        .and_then(|name, request| answer("/ops/v1/clients/NAME/webhook", show(name, request)));
    let put = webhook()
        .and(warp::put())
        .and(request(&context))
        .and(small_json("{\"url\": TEXT}"))
        .and_then(|name, request, told| answer("/ops/v1/clients/NAME/webhook", put(name, request, told)));
    let delete = webhook()
        .and(warp::delete())
        .and(request(&context))
        .and_then(|name, request| answer("/ops/v1/clients/NAME/webhook", delete(name, request)));
    let deliveries = warp::path!("ops" / "v1" / "clients" / String / "deliveries")
        .and(warp::get())
        .and(request(&context))
        .and_then(|name, request| answer("/ops/v1/clients/NAME/deliveries", list(name, request)));
    show.or(put).unify().or(delete).unify().or(deliveries).unify().boxed()
}

fn client(request: &Request, name: &str) -> Result<Client, Problem> {
    let found = request.appliance().store.read(|connection| clients::by_name(connection, name))?;
    found.ok_or_else(|| Problem::not_found("client"))
}

async fn show(name: String, request: Request) -> Answer {
    let view = blocking(move || {
        request.caller()?.operator()?;
        let client = client(&request, &name)?;
        let found = request.appliance().store.read(|connection| webhooks::find(connection, client.client))?;
        let found = found.ok_or_else(|| Problem::not_found("webhook"))?;
        Ok(WebhookView { url: without_query(&found.url).to_owned(), created_at: found.created_at })
    });
    json(StatusCode::OK, &view.await?)
}

async fn put(name: String, request: Request, told: Told<Address>) -> Answer {
    let new = blocking(move || {
        let operator = request.operator()?;
        let url = required(told)?.url;
        announce::check_url(&url).map_err(|wrong| {
            Problem::new(ProblemCode::BadRequest, format!("That is no place for a webhook: {wrong}."))
        })?;
        let client = client(&request, &name)?;
        Ok(set(request.appliance(), &client, url, operator.deed("client.webhook", name, None))?)
    });
    json(StatusCode::OK, &new.await?)
}

async fn delete(name: String, request: Request) -> Answer {
    blocking(move || {
        let operator = request.operator()?;
        let client = client(&request, &name)?;
        let deed = operator.deed("client.webhook-remove", name, None);
        match remove(&request.appliance().store, &client, deed)? {
            true => Ok(()),
            false => Err(Problem::not_found("webhook")),
        }
    })
    .await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn list(name: String, request: Request) -> Answer {
    let list = blocking(move || {
        request.caller()?.operator()?;
        let paging = request.query::<Paging>()?;
        let (limit, before) = (paging.limit()?, paging.after()?.unwrap_or(i64::MAX));
        let client = client(&request, &name)?;
        Ok(DeliveryList::read(&request.appliance().store, client.client, before, limit)?)
    });
    json(StatusCode::OK, &list.await?)
}
