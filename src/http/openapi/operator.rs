//! The operator's calls, under `/ops/v1`, and the metrics.

use super::operation::{By, Operation};
use crate::{
    dispatch::run::DispatchAnswer,
    downstream::DependencyStatus,
    http::{
        all_batches::{self, AllBatches},
        audit,
        client_keys::Rotation,
        clients::{ClientChange, NewClient},
        dispatch::RunList,
        limits::{DependencyList, RateChange},
        overview::Overview,
        problem::ProblemCode as Code,
        small_json::Reason,
        stuck::Reconcile,
        webhooks::Address,
    },
    operations::{
        client_keys::WantedKey,
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

pub(super) fn operations() -> Vec<Operation> {
    [of_dispatch(), of_dependencies(), of_clients(), of_keys(), of_webhooks(), around()].into_iter().flatten().collect()
}

fn get(path: &str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new("get", format!("/ops/v1/{path}"), id, By::Operator, summary)
}

fn change(method: &'static str, path: &str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, format!("/ops/v1/{path}"), id, By::Operator, summary).refuses(&[Code::DiskFull])
}

/// About who gets in.
fn decide(method: &'static str, path: &str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, format!("/ops/v1/{path}"), id, By::Admin, summary).refuses(&[Code::DiskFull])
}

fn of_dispatch() -> Vec<Operation> {
    vec![
        Operation::new(
            "post",
            "/ops/v1/dispatch",
            "dispatch.run",
            By::Dispatcher,
            "One dispatch run: each client is granted its rows",
        )
        .gives::<DispatchAnswer>(
            200,
            "What came of it: `granted`, `already_running`, `too_early` or `paused`",
            r#"{"outcome": "granted", "run": 7, "rows": 500, "granted": [{"client": "acme", "rows": 500}]}"#,
        ),
        get("dispatch/runs", "dispatch.runs", "Dispatch runs, newest first").query::<Paging>().gives::<RunList>(
            200,
            "A page",
            r#"{"runs": [{"run": 7, "at": "2026-11-24T09:00:00.000Z", "asked_by": "call", "rows": 500, "clients": 1,
                          "granted": [{"client": "acme", "rows": 500}]}], "next": null}"#,
        ),
        change("post", "dispatch/pause", "dispatch.pause", "Stop all claims; what is under way finishes")
            .takes::<Reason>(false)
            .gives::<DispatchState>(200, "Who stopped it, since when, and why", PAUSED),
        change("post", "dispatch/resume", "dispatch.resume", "Let claims go on").gives::<DispatchState>(
            200,
            "How it is",
            r#"{"paused": null}"#,
        ),
    ]
}

fn of_dependencies() -> Vec<Operation> {
    vec![
        get("dependencies", "dependencies.list", "Rates, gates, and calls of the last minute").gives::<DependencyList>(
            200,
            "Every dependency",
            format!(r#"{{"dependencies": [{DEPENDENCY}]}}"#),
        ),
        change("patch", "dependencies/{name}", "dependencies.change", "Another rate, from the next request on")
            .takes::<RateChange>(true)
            .gives::<DependencyStatus>(200, "The dependency as it is now", DEPENDENCY),
    ]
}

fn of_clients() -> Vec<Operation> {
    vec![
        get("clients", "clients.list", "Clients by name, with what they have under way")
            .query::<Paging>()
            .gives::<ClientList>(200, "A page", format!(r#"{{"clients": [{CLIENT}], "next": null}}"#)),
        decide("post", "clients", "clients.add", "Add a client; its key is told this once")
            .takes::<NewClient>(true)
            .gives::<NewKey>(201, "The client and its key", KEY)
            .with_headers(&[("Location", "The client's path.")])
            .refuses(&[Code::Conflict]),
        get("clients/{name}", "clients.show", "One client").gives::<ClientView>(200, "The client", CLIENT),
        change("patch", "clients/{name}", "clients.change", "Another limit, or a pause")
            .takes::<ClientChange>(true)
            .gives::<ClientView>(200, "The client as it is now", CLIENT),
        decide("delete", "clients/{name}", "clients.remove", "Remove a client that has nothing unfinished")
            .gives_other(204, "Its key is gone; its batches stay", None)
            .refuses(&[Code::Conflict]),
    ]
}

fn of_keys() -> Vec<Operation> {
    vec![
        get("clients/{name}/keys", "keys.list", "A client's keys, what each is good for, and when it was last used")
            .gives::<KeyList>(200, "All of them", KEYS),
        decide("post", "clients/{name}/keys", "keys.add", "Give it one more, by name; it is told this once")
            .takes::<WantedKey>(true)
            .gives::<AddedKey>(201, "The key", ADDED_KEY)
            .with_headers(&[("Location", "The key's path.")])
            .refuses(&[Code::Conflict]),
        decide("delete", "clients/{name}/keys/{key}", "keys.remove", "Remove one; what it has under way ends with it")
            .gives_other(204, "It is gone", None),
        decide("post", "clients/{name}/rotate-key", "keys.rotate", "A new key; the old one works for a while")
            .takes::<Rotation>(false)
            .gives::<NewKey>(200, "The new key, told this once", KEY)
            .refuses(&[Code::Conflict]),
    ]
}

fn of_webhooks() -> Vec<Operation> {
    vec![
        get("clients/{name}/webhook", "webhooks.show", "Where a client is told of finished batches")
            .gives::<WebhookView>(
                200,
                "The webhook",
                r#"{"url": "https://acme.example/hook", "created_at": "2026-11-24T09:00:00.000Z"}"#,
            ),
        decide("put", "clients/{name}/webhook", "webhooks.set", "Set it; the signing secret is told this once")
            .takes::<Address>(true)
            .gives::<NewWebhook>(
                200,
                "The webhook and its secret",
                r#"{"name": "acme", "url": "https://acme.example/hook", "secret": "whsec_c2hvd24tb25jZQ=="}"#,
            ),
        decide("delete", "clients/{name}/webhook", "webhooks.remove", "Announce nothing to it any more").gives_other(
            204,
            "It is gone",
            None,
        ),
        get("clients/{name}/deliveries", "webhooks.deliveries", "What was announced, and what came of it")
            .query::<Paging>()
            .gives::<DeliveryList>(200, "A page, newest first", r#"{"deliveries": [], "next": null}"#),
    ]
}

/// Everything at a glance, what is stuck, and who did what.
fn around() -> Vec<Operation> {
    vec![
        get("overview", "overview.show", "How everything is").gives::<Overview>(200, "All of it", OVERVIEW),
        get("batches", "overview.batches", "Everybody's batches, newest first")
            .query::<all_batches::Query>()
            .gives::<AllBatches>(200, "A page", r#"{"batches": [], "next": null}"#)
            .refuses(&[Code::NotFound]),
        get("stuck", "stuck.list", "Claims that have expired, and what would become of them").gives::<StuckView>(
            200,
            "What is stuck",
            STUCK,
        ),
        change("post", "stuck/reconcile", "stuck.reconcile", "Free them; without `apply` nothing is changed")
            .takes::<Reconcile>(false)
            .gives::<StuckView>(200, "What was stuck", STUCK),
        Operation::new("get", "/metrics", "metrics.read", By::Watcher, "What Prometheus reads").gives_other(
            200,
            "Every metric, in Prometheus's text format 0.0.4",
            Some("text/plain"),
        ),
        Operation::new("get", "/ops/v1/sessions", "sessions.list", By::Admin, "Who is signed in on the page")
            .query::<Paging>()
            .gives::<SessionList>(
                200,
                "A page, newest first",
                r#"{"sessions": [{"id": "17", "who": "client:acme", "from": "10.0.0.7",
                             "opened_at": "2026-11-24T09:00:00.000Z", "expires_at": "2026-11-24T17:00:00.000Z"}],
                    "next": null}"#,
            ),
        decide("delete", "sessions/{session}", "sessions.end", "End one, with what came with it and is under way")
            .gives_other(204, "It has ended", None),
        get("audit", "audit.list", "Who did what, when, from where and why")
            .query::<audit::Query>()
            .gives::<AuditList>(
                200,
                "A page, newest first",
                r#"{"entries": [{"at": "2026-11-24T14:02:00.000Z", "who": "root", "action": "dispatch.pause",
                             "target": "dispatch", "from": "10.0.0.7", "why": "vendor maintenance"}], "next": null}"#,
            ),
    ]
}
