//! `/ops/v1/clients`: who may upload, how many of their rows a run grants, and their keys.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Map, Value};
use warp::http::{HeaderValue, StatusCode, header};

use super::{
    answer::{Answer, blocking, json, no_content},
    list::listed,
    problem::{Problem, ProblemCode},
    request::Request,
    small_json::{JsonBody, Sent, checked, required},
};
use crate::{
    model::quota::{QuotaChanges, said},
    operations::{
        client_limits::{LimitFault, Limits},
        clients::{self, Change, ClientFault},
        views::{client::ClientView, paging::Paging},
    },
    store::{
        Connection,
        clients::{by_name, page},
    },
};

impl From<ClientFault> for Problem {
    fn from(fault: ClientFault) -> Self {
        let code = match fault {
            ClientFault::Missing => return Self::not_found("client"),
            ClientFault::Store(error) => return error.into(),
            ClientFault::Name | ClientFault::NothingSaid | ClientFault::Limits(_) => ProblemCode::BadRequest,
            ClientFault::NameTaken { .. } | ClientFault::Unfinished(_) => ProblemCode::Conflict,
        };
        Self::sentence(code, &fault)
    }
}

impl From<LimitFault> for Problem {
    fn from(fault: LimitFault) -> Self {
        Self::sentence(ProblemCode::BadRequest, &fault)
    }
}

/// A client to be added.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewClient {
    name: String,
    #[serde(default)]
    rows_per_run: Option<u32>,
    /// The workflows that it may use; all where nobody says.
    #[serde(default)]
    workflows: Option<Vec<String>>,
}

impl JsonBody for NewClient {
    const SHAPE: &'static str = "{\"name\": TEXT, \"rows_per_run\": NUMBER, or left out for the configured default, \
                                \"workflows\": a list of names, or left out for all}";
}

/// What is changed of a client. `null` goes back to what is configured; for `workflows` it means all.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientChange {
    #[serde(default, deserialize_with = "said")]
    rows_per_run: Option<Option<u32>>,
    #[serde(default, deserialize_with = "said")]
    workflows: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "object")]
    quotas: QuotaChanges,
    #[serde(default)]
    paused: Option<bool>,
    #[serde(default)]
    reason: Option<String>,
}

impl JsonBody for ClientChange {
    const SHAPE: &'static str = "{\"rows_per_run\": NUMBER, or null for the configured default; \"workflows\": a list of \
                                names, or null for all; \"quotas\": {\"pending_rows\", \"stored_bytes\", \"batches\", \
                                \"uploads_at_once\": NUMBER, or null for the configured one}; \"paused\": true or false}";
}

/// By the names of its members alone: without names, as a list, nobody could tell what is meant.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let members = Map::<String, Value>::deserialize(from)?;
    serde_json::from_value(members.into()).map_err(D::Error::custom)
}

pub(super) async fn list(request: Request) -> Answer {
    let ask = |request: &Request| {
        request.caller()?.operator()?;
        let paging = request.query::<Paging>()?;
        Ok((paging.after::<String>()?.unwrap_or_default(), paging.most()?))
    };
    listed(request, "clients", ask, |request, (after, most), shown| {
        let appliance = request.appliance();
        let found = appliance.store.read(|connection| page(connection, after, *most))?;
        let next = found.next(|client| client.name.clone());
        shown.fill(
            found.entries,
            next,
            |client| client.name.clone(),
            |client| {
                let view = |connection: &Connection| ClientView::read(connection, &client, &appliance.config);
                appliance.store.read(view)
            },
        )
    })
    .await
}

pub(super) async fn show(name: String, request: Request) -> Answer {
    let view = blocking(move || {
        request.caller()?.operator()?;
        view(&request, &name)
    });
    json(StatusCode::OK, &view.await?)
}

fn view(request: &Request, name: &str) -> Result<ClientView, Problem> {
    let appliance = request.appliance();
    let found = appliance.store.read(|connection| {
        let client = by_name(connection, name)?;
        client.map(|client| ClientView::read(connection, &client, &appliance.config)).transpose()
    })?;
    found.ok_or_else(|| Problem::not_found("client"))
}

pub(super) async fn add(request: Request, sent: Sent<NewClient>) -> Answer {
    let new = sent.told(&request).await?;
    let key = blocking(move || {
        let admin = request.admin()?;
        let NewClient { name, rows_per_run, workflows } = required(new)?;
        Ok(clients::add(request.env(), &admin, clients::NewClient { name, rows_per_run, workflows })?)
    })
    .await?;
    let mut response = json(StatusCode::CREATED, &key)?;
    if let Ok(location) = HeaderValue::from_str(&format!("/ops/v1/clients/{}", key.name)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn change(name: String, request: Request, sent: Sent<ClientChange>) -> Answer {
    let told = sent.told(&request).await?;
    let view = blocking(move || {
        let operator = request.operator()?;
        let ClientChange { rows_per_run, workflows, quotas, paused, reason } = required(told)?;
        let limits = Limits { rows_per_run, workflows, quotas };
        let change = Change { limits, paused, reason: checked(reason)? };
        clients::change(request.env(), &operator, &name, change)?;
        view(&request, &name)
    });
    json(StatusCode::OK, &view.await?)
}

pub(super) async fn remove(name: String, request: Request) -> Answer {
    blocking(move || {
        let admin = request.admin()?;
        Ok(clients::remove(request.env(), &admin, &name)?)
    })
    .await?;
    no_content()
}
