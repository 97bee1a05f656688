//! `/ops/v1/clients`: who may upload, how many of their rows a run grants, and their keys.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    Context,
    answer::{Answer, answer, blocking, json},
    batches::Paging,
    problem::{Problem, ProblemCode},
    request::{Request, request},
    small_json::{Told, because, required, small_json},
};
use crate::{
    access::{LONGEST_NAME, is_name, key_hash, new_client_key},
    config::{MOST_ROWS_PER_RUN, parse_duration},
    model::Timestamp,
    store::{
        StoreError, audit,
        clients::{self, Client, Removal, Work},
    },
};

/// How long a client's old key is good beside its new one, where nobody says.
pub const OLD_KEY_WORKS_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// And at most.
pub const OLD_KEY_WORKS_AT_MOST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A client, as operators see it. Of its keys only hashes are kept.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClientView {
    /// Its name.
    name: String,
    /// Its own limit: rows that each dispatch run grants it; `null`: the configured default.
    rows_per_run: Option<u32>,
    /// The limit that holds.
    limit: u32,
    /// Whether none of its rows are claimed.
    paused: bool,
    /// Since when.
    paused_at: Option<Timestamp>,
    /// Batches that are not finished.
    batches: u32,
    /// Rows of those that wait.
    pending: u64,
    /// Rows of those that are being worked on.
    processing: u64,
    /// Rows of those that are completed.
    completed: u64,
    /// Rows of those that failed.
    failed: u64,
    /// Until when the key before the last rotation is good, if it still is.
    old_key_until: Option<Timestamp>,
    /// When it was added.
    created_at: Timestamp,
}

impl ClientView {
    /// A client with what it has under way, under this default limit.
    pub fn of(client: &Client, work: Work, default_rows: u32, now: Timestamp) -> Self {
        Self {
            name: client.name.clone(),
            rows_per_run: client.rows_per_run,
            limit: client.rows_per_run.unwrap_or(default_rows),
            paused: client.paused_at.is_some(),
            paused_at: client.paused_at,
            batches: work.batches,
            pending: work.pending,
            processing: work.processing,
            completed: work.completed,
            failed: work.failed,
            old_key_until: client.old_key_until.filter(|until| *until > now),
            created_at: client.created_at,
        }
    }

    /// The same as people read it: name, limit, state, rows that wait, are worked on and failed, time of creation.
    pub fn cells(&self) -> Vec<String> {
        let limit = self.rows_per_run.map_or_else(|| format!("{} (default)", self.limit), |rows| rows.to_string());
        let state = if self.paused { "paused" } else { "active" };
        let counts = [self.pending, self.processing, self.failed].map(|count| count.to_string());
        let mut cells = vec![self.name.clone(), limit, state.to_owned()];
        cells.extend(counts);
        cells.push(self.created_at.to_string());
        cells
    }
}

/// A page of clients.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClientList {
    /// By name.
    pub clients: Vec<ClientView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A client's key, told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NewKey {
    /// The client.
    pub name: String,
    /// Its key.
    pub key: String,
    /// Until when the key before it is good; left out where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_key_until: Option<Timestamp>,
}

/// A client to be added.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewClient {
    name: String,
    #[serde(default)]
    rows_per_run: Option<u32>,
}

/// What is changed of a client. `"rows_per_run": null` goes back to the configured default.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientChange {
    #[serde(default, deserialize_with = "said")]
    rows_per_run: Option<Option<u32>>,
    #[serde(default)]
    paused: Option<bool>,
    #[serde(default)]
    reason: Option<String>,
}

/// How long the old key stays good.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    #[serde(default)]
    old_key_works_for: Option<String>,
}

/// Tells `null` from what was left out.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let clients = || warp::path!("ops" / "v1" / "clients");
    let client = || warp::path!("ops" / "v1" / "clients" / String);
    let list =
        clients().and(warp::get()).and(request(&context)).and_then(|request| answer("/ops/v1/clients", list(request)));
    let add = clients()
        .and(warp::post())
        .and(request(&context))
        .and(small_json("{\"name\": TEXT, \"rows_per_run\": NUMBER, or left out for the configured default}"))
        .and_then(|request, new| answer("/ops/v1/clients", add(request, new)));
    let show = client()
        .and(warp::get())
        .and(request(&context))
        .and_then(|name, request| answer("/ops/v1/clients/NAME", show(name, request)));
    let change = client()
        .and(warp::patch())
        .and(request(&context))
        .and(small_json("{\"rows_per_run\": NUMBER, or null for the configured default; \"paused\": true or false}"))
        .and_then(|name, request, told| answer("/ops/v1/clients/NAME", change(name, request, told)));
    let remove = client()
        .and(warp::delete())
        .and(request(&context))
        .and_then(|name, request| answer("/ops/v1/clients/NAME", remove(name, request)));
    let rotate = warp::path!("ops" / "v1" / "clients" / String / "rotate-key")
        .and(warp::post())
        .and(request(&context))
        .and(small_json("{\"old_key_works_for\": a duration like \"24h\"}, or left out"))
        .and_then(|name, request, told| answer("/ops/v1/clients/NAME/rotate-key", rotate(name, request, told)));
    list.or(add).unify().or(show).unify().or(change).unify().or(remove).unify().or(rotate).unify().boxed()
}

async fn list(request: Request) -> Answer {
    let list = blocking(move || {
        request.caller()?.operator()?;
        let paging = request.query::<Paging>()?;
        let (limit, after) = (paging.limit()?, paging.after::<String>()?.unwrap_or_default());
        let appliance = request.appliance();
        let (default_rows, now) = (appliance.config.dispatch.rows_per_client_per_run, appliance.clock.now());
        Ok(appliance.store.read(|connection| {
            let page = clients::page(connection, &after, limit)?;
            let next = (page.len() == limit as usize).then(|| page.last().map(|client| client.name.clone())).flatten();
            let view = |client: &Client| {
                Ok::<_, StoreError>(ClientView::of(
                    client,
                    clients::work_of(connection, client.client)?,
                    default_rows,
                    now,
                ))
            };
            Ok(ClientList { clients: page.iter().map(view).collect::<Result<_, _>>()?, next })
        })?)
    });
    json(StatusCode::OK, &list.await?)
}

async fn show(name: String, request: Request) -> Answer {
    let view = blocking(move || {
        request.caller()?.operator()?;
        view(&request, &name)
    });
    json(StatusCode::OK, &view.await?)
}

fn view(request: &Request, name: &str) -> Result<ClientView, Problem> {
    let appliance = request.appliance();
    let (default_rows, now) = (appliance.config.dispatch.rows_per_client_per_run, appliance.clock.now());
    let found = appliance.store.read(|connection| {
        let Some(client) = clients::by_name(connection, name)? else { return Ok(None) };
        Ok(Some(ClientView::of(&client, clients::work_of(connection, client.client)?, default_rows, now)))
    })?;
    found.ok_or_else(|| Problem::not_found("client"))
}

async fn add(request: Request, new: Told<NewClient>) -> Answer {
    let key = blocking(move || {
        let operator = request.operator()?;
        let NewClient { name, rows_per_run } = required(new)?;
        if !is_name(&name) {
            let detail = format!("A client's name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`.");
            return Err(Problem::new(ProblemCode::BadRequest, detail));
        }
        check_rows_per_run(rows_per_run)?;
        let key = new_client_key();
        let (of, hash) = (name.clone(), key_hash(&key));
        let added = request.appliance().store.write(move |tx| {
            let added = clients::add(tx, &of, hash, rows_per_run)?;
            if added {
                audit::note(tx, &operator.deed("client.add", of, None))?;
            }
            Ok(added)
        })?;
        if !added {
            let detail = "There is or was a client of that name already: a name is never given twice.";
            return Err(Problem::new(ProblemCode::Conflict, detail));
        }
        Ok(NewKey { name, key, old_key_until: None })
    })
    .await?;
    let mut response = json(StatusCode::CREATED, &key)?;
    if let Ok(location) = HeaderValue::from_str(&format!("/ops/v1/clients/{}", key.name)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn change(name: String, request: Request, told: Told<ClientChange>) -> Answer {
    let view = blocking(move || {
        let (appliance, operator) = (request.appliance(), request.operator()?);
        let ClientChange { rows_per_run, paused, reason } = required(told)?;
        if rows_per_run.is_none() && paused.is_none() {
            return Err(Problem::new(ProblemCode::BadRequest, "Say `rows_per_run`, `paused`, or both."));
        }
        check_rows_per_run(rows_per_run.flatten())?;
        let (of, default_rows) = (name.clone(), appliance.config.dispatch.rows_per_client_per_run);
        let known = appliance.store.write(move |tx| {
            if let Some(rows) = rows_per_run {
                if !clients::set_rows_per_run(tx, &of, rows, default_rows)? {
                    return Ok(false);
                }
                let to = rows.map_or_else(|| "as configured".to_owned(), |rows| format!("{rows} rows a run"));
                audit::note(tx, &operator.deed("client.limit", of.clone(), Some(because(to, reason.clone()))))?;
            }
            if let Some(paused) = paused {
                if !clients::set_paused(tx, &of, paused)? {
                    return Ok(false);
                }
                let action = if paused { "client.pause" } else { "client.resume" };
                audit::note(tx, &operator.deed(action, of.clone(), reason))?;
            }
            Ok(true)
        })?;
        if !known {
            return Err(Problem::not_found("client"));
        }
        appliance.work_bell.ring();
        view(&request, &name)
    });
    json(StatusCode::OK, &view.await?)
}

async fn remove(name: String, request: Request) -> Answer {
    blocking(move || {
        let operator = request.operator()?;
        let removal = request.appliance().store.write(move |tx| {
            let removal = clients::remove(tx, &name)?;
            if removal == Removal::Done {
                audit::note(tx, &operator.deed("client.remove", name, None))?;
            }
            Ok(removal)
        })?;
        match removal {
            Removal::Done => Ok(()),
            Removal::Unknown => Err(Problem::not_found("client")),
            Removal::Unfinished(batches) => Err(Problem::new(
                ProblemCode::Conflict,
                format!("The client has {batches} batches that are not finished: wait for them, or cancel them first."),
            )),
        }
    })
    .await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn rotate(name: String, request: Request, told: Told<Rotation>) -> Answer {
    let key = blocking(move || {
        let operator = request.operator()?;
        let works_for = match told?.unwrap_or_default().old_key_works_for {
            None => OLD_KEY_WORKS_FOR,
            Some(text) => parse_duration(&text)
                .map_err(|problem| Problem::new(ProblemCode::BadRequest, format!("`old_key_works_for` {problem}.")))?,
        };
        if works_for > OLD_KEY_WORKS_AT_MOST {
            return Err(Problem::new(ProblemCode::BadRequest, "`old_key_works_for` is at most 90d."));
        }
        let key = new_client_key();
        let (of, hash) = (name.clone(), key_hash(&key));
        let until = request.appliance().store.write(move |tx| {
            let until = tx.now.after(works_for);
            let rotated = clients::rotate_key(tx, &of, hash, until)?;
            if rotated {
                audit::note(
                    tx,
                    &operator.deed("client.rotate-key", of, Some(format!("the old key works until {until}"))),
                )?;
            }
            Ok(rotated.then_some(until))
        })?;
        let until = until.ok_or_else(|| Problem::not_found("client"))?;
        Ok(NewKey { name, key, old_key_until: Some(until) })
    });
    json(StatusCode::OK, &key.await?)
}

fn check_rows_per_run(rows: Option<u32>) -> Result<(), Problem> {
    match rows {
        Some(rows) if rows > MOST_ROWS_PER_RUN => {
            Err(Problem::new(ProblemCode::BadRequest, format!("`rows_per_run` is 0 to {MOST_ROWS_PER_RUN}.")))
        }
        _ => Ok(()),
    }
}
