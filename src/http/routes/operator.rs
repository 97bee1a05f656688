//! The operator's calls, under `/ops/v1`, and the metrics.

use warp::http::Method;

use super::Route;
use crate::{
    dispatch::run::DispatchAnswer,
    downstream::DependencyStatus,
    http::{
        all_batches::{self, AllBatches},
        audit, client_keys, clients,
        dispatch::{self, RunList},
        limits::{self, DependencyList},
        metrics,
        openapi::{By, Operation},
        overview::{self, Overview},
        problem::ProblemCode as Code,
        sessions, stuck, webhooks,
    },
    operations::{
        dispatch::DispatchState,
        views::{
            audit::AuditList,
            client::{ClientList, ClientView},
            key::{AddedKey, KeyList, NewKey},
            paging::Paging,
            session::SessionList,
            stuck::StuckView,
            webhook::{DeliveryList, NewWebhook, WebhookView},
        },
    },
};

const CLIENT: &str = include_str!("examples/client.json");
const DEPENDENCY: &str = include_str!("examples/dependency.json");
const OVERVIEW: &str = include_str!("examples/overview.json");
const PAUSED: &str = r#"{"paused": {"at": "2026-11-24T14:02:00.000Z", "by": "root", "reason": "vendor maintenance"}}"#;
const STUCK: &str = r#"{"rows": [{"row": "bat_01KB1Y3M0Q8V5T2N7R4C6D9E0F/17", "expired_at": "2026-11-24T09:05:00.000Z",
                        "becomes": "pending"}], "batches": [], "applied": null}"#;
const KEY: &str = r#"{"name": "acme", "key": "dfk_shown-once"}"#;
const KEYS: &str = r#"{"keys": [{"name": "reporting", "scopes": ["read"], "expires_at": "2027-11-24T09:00:00.000Z",
                       "expired": false, "last_used_at": "2026-11-24T08:59:00.000Z", "old_key_until": null,
                       "created_at": "2026-11-01T08:00:00.000Z"}], "next": null}"#;
const ADDED_KEY: &str = r#"{"client": "acme", "name": "reporting", "key": "dfk_shown-once", "scopes": ["read"],
                            "expires_at": "2027-11-24T09:00:00.000Z"}"#;
const RUNS: &str = r#"{"runs": [{"run": 7, "at": "2026-11-24T09:00:00.000Z", "asked_by": "call", "rows": 500, "clients": 1,
                       "granted": [{"client": "acme", "rows": 500}]}], "next": null}"#;
const WEBHOOK: &str = r#"{"url": "https://acme.example/hook", "created_at": "2026-11-24T09:00:00.000Z"}"#;
const NEW_WEBHOOK: &str = r#"{"name": "acme", "url": "https://acme.example/hook", "secret": "whsec_c2hvd24tb25jZQ=="}"#;
const SESSIONS: &str = r#"{"sessions": [{"id": "17", "who": "client:acme", "from": "10.0.0.7",
                           "opened_at": "2026-11-24T09:00:00.000Z", "expires_at": "2026-11-24T17:00:00.000Z"}],
                           "next": null}"#;
const AUDIT: &str = r#"{"entries": [{"at": "2026-11-24T14:02:00.000Z", "who": "root", "action": "dispatch.pause",
                        "target": "dispatch", "from": "10.0.0.7", "why": "vendor maintenance"}], "next": null}"#;

pub(super) fn routes() -> Vec<Route> {
    [of_dispatch(), of_dependencies(), of_clients(), of_keys(), of_webhooks(), around()].into_iter().flatten().collect()
}

fn get(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::get(path, id, By::Operator, summary)
}

fn change(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, By::Operator, summary).refuses(&[Code::DiskFull])
}

/// About who gets in.
fn decide(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, By::Admin, summary).refuses(&[Code::DiskFull])
}

fn of_dispatch() -> Vec<Route> {
    vec![
        Operation::post(
            "/ops/v1/dispatch",
            "dispatch.run",
            By::Dispatcher,
            "One dispatch run: each client is granted its rows",
        )
        .gives::<DispatchAnswer>(
            200,
            "What came of it: `granted`, `already_running`, `too_early` or `paused`",
            r#"{"outcome": "granted", "run": 7, "rows": 500, "granted": [{"client": "acme", "rows": 500}]}"#,
        )
        .to(dispatch::run),
        get("/ops/v1/dispatch/runs", "dispatch.runs", "Dispatch runs, newest first")
            .query::<Paging>()
            .gives::<RunList>(200, "A page", RUNS)
            .to(dispatch::runs),
        change(Method::POST, "/ops/v1/dispatch/pause", "dispatch.pause", "Stop all claims; what is under way finishes")
            .gives::<DispatchState>(200, "Who stopped it, since when, and why", PAUSED)
            .to(dispatch::pause),
        change(Method::POST, "/ops/v1/dispatch/resume", "dispatch.resume", "Let claims go on")
            .gives::<DispatchState>(200, "How it is", r#"{"paused": null}"#)
            .to(dispatch::resume),
    ]
}

fn of_dependencies() -> Vec<Route> {
    vec![
        get("/ops/v1/dependencies", "dependencies.list", "Rates, gates, and calls of the last minute")
            .gives::<DependencyList>(200, "Every dependency", format!(r#"{{"dependencies": [{DEPENDENCY}]}}"#))
            .to(limits::list_dependencies),
        change(
            Method::PATCH,
            "/ops/v1/dependencies/NAME",
            "dependencies.change",
            "Another rate, from the next request on",
        )
        .gives::<DependencyStatus>(200, "The dependency as it is now", DEPENDENCY)
        .to(limits::set_rate),
    ]
}

fn of_clients() -> Vec<Route> {
    vec![
        get("/ops/v1/clients", "clients.list", "Clients by name, with what they have under way")
            .query::<Paging>()
            .gives::<ClientList>(200, "A page", format!(r#"{{"clients": [{CLIENT}], "next": null}}"#))
            .to(clients::list),
        decide(Method::POST, "/ops/v1/clients", "clients.add", "Add a client; its key is told this once")
            .gives::<NewKey>(201, "The client and its key", KEY)
            .with_headers(&[("Location", "The client's path.")])
            .refuses(&[Code::Conflict])
            .to(clients::add),
        get("/ops/v1/clients/NAME", "clients.show", "One client")
            .gives::<ClientView>(200, "The client", CLIENT)
            .to(clients::show),
        change(Method::PATCH, "/ops/v1/clients/NAME", "clients.change", "Another limit, or a pause")
            .gives::<ClientView>(200, "The client as it is now", CLIENT)
            .to(clients::change),
        decide(Method::DELETE, "/ops/v1/clients/NAME", "clients.remove", "Remove a client that has nothing unfinished")
            .gives_other(204, "Its key is gone; its batches stay", None)
            .refuses(&[Code::Conflict])
            .to(clients::remove),
    ]
}

fn of_keys() -> Vec<Route> {
    const KEYS_OF: &str = "/ops/v1/clients/NAME/keys";
    vec![
        get(KEYS_OF, "keys.list", "A client's keys, what each is good for, and when it was last used")
            .gives::<KeyList>(200, "All of them", KEYS)
            .to(client_keys::show),
        decide(Method::POST, KEYS_OF, "keys.add", "Give it one more, by name; it is told this once")
            .gives::<AddedKey>(201, "The key", ADDED_KEY)
            .with_headers(&[("Location", "The key's path.")])
            .refuses(&[Code::Conflict])
            .to(client_keys::post),
        decide(
            Method::DELETE,
            "/ops/v1/clients/NAME/keys/KEY",
            "keys.remove",
            "Remove one; what it has under way ends with it",
        )
        .gives_other(204, "It is gone", None)
        .to(client_keys::delete),
        decide(
            Method::POST,
            "/ops/v1/clients/NAME/rotate-key",
            "keys.rotate",
            "A new key; the old one works for a while",
        )
        .gives::<NewKey>(200, "The new key, told this once", KEY)
        .refuses(&[Code::Conflict])
        .to(client_keys::post_rotation),
    ]
}

fn of_webhooks() -> Vec<Route> {
    const WEBHOOK_OF: &str = "/ops/v1/clients/NAME/webhook";
    vec![
        get(WEBHOOK_OF, "webhooks.show", "Where a client is told of finished batches")
            .gives::<WebhookView>(200, "The webhook", WEBHOOK)
            .to(webhooks::show),
        decide(Method::PUT, WEBHOOK_OF, "webhooks.set", "Set it; the signing secret is told this once")
            .gives::<NewWebhook>(200, "The webhook and its secret", NEW_WEBHOOK)
            .to(webhooks::put),
        decide(Method::DELETE, WEBHOOK_OF, "webhooks.remove", "Announce nothing to it any more")
            .gives_other(204, "It is gone", None)
            .to(webhooks::delete),
        get("/ops/v1/clients/NAME/deliveries", "webhooks.deliveries", "What was announced, and what came of it")
            .query::<Paging>()
            .gives::<DeliveryList>(200, "A page, newest first", r#"{"deliveries": [], "next": null}"#)
            .to(webhooks::list),
    ]
}

/// Everything at a glance, what is stuck, and who did what.
fn around() -> Vec<Route> {
    vec![
        get("/ops/v1/overview", "overview.show", "How everything is")
            .gives::<Overview>(200, "All of it", OVERVIEW)
            .to(overview::overview),
        get("/ops/v1/batches", "overview.batches", "Everybody's batches, newest first")
            .query::<all_batches::Query>()
            .gives::<AllBatches>(200, "A page", r#"{"batches": [], "next": null}"#)
            .refuses(&[Code::NotFound])
            .to(all_batches::list),
        get("/ops/v1/stuck", "stuck.list", "Claims that have expired, and what would become of them")
            .gives::<StuckView>(200, "What is stuck", STUCK)
            .to(stuck::list),
        change(
            Method::POST,
            "/ops/v1/stuck/reconcile",
            "stuck.reconcile",
            "Free them; without `apply` nothing is changed",
        )
        .gives::<StuckView>(200, "What was stuck", STUCK)
        .to(stuck::reconcile),
        Operation::get("/metrics", "metrics.read", By::Watcher, "What Prometheus reads")
            .gives_other(200, "Every metric, in Prometheus's text format 0.0.4", Some("text/plain"))
            .to(metrics::metrics),
        Operation::get("/ops/v1/sessions", "sessions.list", By::Admin, "Who is signed in on the page")
            .query::<Paging>()
            .gives::<SessionList>(200, "A page, newest first", SESSIONS)
            .to(sessions::list),
        decide(
            Method::DELETE,
            "/ops/v1/sessions/SESSION",
            "sessions.end",
            "End one, with what came with it and is under way",
        )
        .gives_other(204, "It has ended", None)
        .to(sessions::end),
        get("/ops/v1/audit", "audit.list", "Who did what, when, from where and why")
            .query::<audit::Query>()
            .gives::<AuditList>(200, "A page, newest first", AUDIT)
            .to(audit::list),
    ]
}
