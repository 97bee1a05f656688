//! The client's calls, and those that need no key.

use bytes::Bytes;
use serde_json::json;

use super::{Path, Route};
use crate::{
    http::{
        batches::{self, BatchList},
        deletion,
        errors::{self, ErrorGroups},
        events,
        health::{self, Health},
        oidc::{self, Back, Ways},
        openapi::{self, By, Document, Operation},
        problem::ProblemCode as Code,
        request::Request,
        results, retry,
        rows::{self, Reveal, RowList, SkippedList},
        session::{self, SessionView},
        small_json::Pieces,
        upgrade,
        upload::{self, Options, Valid},
        workflows::{self, TEMPLATE, WorkflowList},
    },
    model::{Scope, Workflow},
    operations::views::{batch::BatchView, deletion::ReceiptView, paging::Paging, row::RowView},
};

const BATCH: &str = include_str!("examples/batch.json");
const ROW: &str = include_str!("examples/row.json");
const WORKFLOWS: &str = include_str!("examples/workflows.json");
const SESSION: &str = r#"{"kind": "client", "name": "acme", "scopes": ["upload", "read", "manage"], "expires_at": "2026-11-24T17:00:00.000Z"}"#;

/// Whose call it is that is about a client's own batches: to look at them, or to change them.
const READ: By = By::ClientOrOperator(Scope::Read);
const MANAGE: By = By::ClientOrOperator(Scope::Manage);

/// A list with one entry.
fn list_of(name: &str, entry: &str) -> String {
    format!(r#"{{"{name}": [{entry}], "next": null}}"#)
}

fn retried() -> String {
    let retried =
        r#""retried": {"rows": 2, "under_way": false, "left_alone_outcome_unknown": 0, "left_alone_bad_answer": 0}"#;
    format!("{}, {retried}}}", BATCH.trim_end().trim_end_matches('}').trim_end())
}

/// The calls that a workflow brings.
pub(super) fn of_workflow(workflow: &Workflow) -> Vec<Route> {
    let path = |behind: &str, label| Path::configured(format!("{}{behind}", workflow.upload_path), label);
    let id = |area: &str| format!("{area}.{}", workflow.name);
    let file = json!({ "type": "string", "description": "The CSV: UTF-8, with a header." });
    let form = json!({
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": { "type": "string", "contentMediaType": "text/csv" },
            "context": { "type": "string", "contentMediaType": "application/json", "description": "A JSON object." },
        },
    });
    let (to_upload, to_template) = (workflow.name.clone(), workflow.name.clone());
    vec![
        Operation::post(
            path("", "upload"),
            id("uploads"),
            By::Client(Scope::Upload),
            "Upload a CSV; it becomes a batch",
        )
        .query::<Options>()
        .header("X-Dripfeed-Context", "A JSON object that is kept with the batch, encrypted.")
        .header("Idempotency-Key", "Makes it harmless to send the same upload again within a day.")
        .header("Content-Encoding", "`gzip`, where the body is compressed.")
        .takes_other("text/csv", file)
        .takes_other("multipart/form-data", form)
        .gives::<BatchView>(202, "Stored, and on disk", BATCH)
        .with_headers(&[("Location", "The batch's path.")])
        .gives::<Valid>(200, "`validate_only=true`: the file would be accepted", r#"{"valid": true, "rows": 1000, "columns": ["email", "first_name", "last_name", "postcode", "house_number"], "delimiter": "comma", "warnings": []}"#)
        .refuses(&[
            Code::InvalidFile,
            Code::Conflict,
            Code::TooLarge,
            Code::UnsupportedMediaType,
            Code::RequestTimeout,
            Code::DiskFull,
        ])
        .to(move |request: Request, body: Pieces| upload::upload(to_upload.clone(), request, body)),
        Operation::get(
            path(TEMPLATE, "upload/template.csv"),
            id("templates"),
            By::Client(Scope::Upload),
            "The header of such a file, and one example row",
        )
        .gives_other(200, "A CSV", Some("text/csv"))
        .to(move |request: Request| workflows::template(to_template.clone(), request)),
    ]
}

/// The calls that are the same for every workflow.
pub(super) fn routes(document: Bytes) -> Vec<Route> {
    [of_batches(), of_rows(), changes(), of_sessions(), around(document)].into_iter().flatten().collect()
}

fn of_batches() -> Vec<Route> {
    vec![
        Operation::get("/v2/batches", "batches.list", READ, "Batches, newest first")
            .query::<Paging>()
            .gives::<BatchList>(200, "A page", list_of("batches", BATCH))
            .to(batches::list),
        Operation::get("/v2/batches/ID", "batches.show", READ, "One batch")
            .gives::<BatchView>(200, "The batch", BATCH)
            .to(batches::show),
        Operation::get(
            "/v2/batches/ID/events",
            "batches.events",
            READ,
            "Server-sent events `batch`: the batch, as it changes",
        )
        .gives_other(200, "A stream that ends when the batch is finished", Some("text/event-stream"))
        .to(events::open),
        Operation::get(
            "/v2/batches/ID/skipped",
            "batches.skipped",
            READ,
            "Records that `on_invalid_row = \"skip\"` left out",
        )
        .query::<Paging>()
        .gives::<SkippedList>(200, "A page", r#"{"skipped": [{"line": 7, "column": "email", "column_number": 1, "code": "invalid_value", "message": "an e-mail address is expected"}], "next": null}"#)
        .to(rows::skipped_lines),
        Operation::get(
            "/v2/batches/ID/errors",
            "batches.errors",
            READ,
            "Failed rows by step and code, with an example of each",
        )
        .gives::<ErrorGroups>(200, "The groups, largest first", r#"{"groups": [{"step": "invite-create", "code": "rejected", "http_status": 422, "count": 3, "example_row": 17}]}"#)
        .to(errors::errors),
        Operation::get(
            "/v2/batches/ID/results.csv",
            "batches.results",
            READ,
            "The file with what became of each row, in the file's order",
        )
        .query::<results::Query>()
        .gives_other(200, "A CSV, streamed", Some("text/csv"))
        .refuses(&[Code::Busy])
        .to(results::download),
    ]
}

fn of_rows() -> Vec<Route> {
    vec![
        Operation::get("/v2/batches/ID/rows", "rows.list", READ, "Rows, by number")
            .query::<rows::Query>()
            .gives::<RowList>(200, "A page; it may be short while `next` is not null", list_of("rows", ROW))
            .refuses(&[Code::Busy])
            .to(rows::list),
        Operation::get("/v2/batches/ID/rows/NUMBER", "rows.show", READ, "One row, with every step")
            .query::<Reveal>()
            .gives::<RowView>(200, "The row", ROW)
            .to(rows::show),
    ]
}

fn changes() -> Vec<Route> {
    let change = |path: &'static str, id, summary| {
        Operation::post(path, id, MANAGE, summary)
            .gives::<BatchView>(200, "The batch as it is now", BATCH)
            .refuses(&[Code::Conflict, Code::DiskFull])
    };
    vec![
        change(
            "/v2/batches/ID/pause",
            "batches.pause",
            "Claim none of its rows any more; what is under way finishes",
        )
        .to(batches::pause),
        change("/v2/batches/ID/resume", "batches.resume", "Claim its rows again")
            .to(batches::resume),
        change(
            "/v2/batches/ID/cancel",
            "batches.cancel",
            "End it: what is under way finishes, the rest is never worked",
        )
        .to(batches::cancel),
        Operation::post(
            "/v2/batches/ID/retry",
            "batches.retry",
            MANAGE,
            "Put failed rows back to pending, with what their steps saved",
        )
        .query::<retry::Query>()
        .gives::<retry::RetriedBatch>(200, "The batch as it is now, and what was put back", retried())
        .refuses(&[Code::Conflict, Code::DiskFull])
        .to(retry::retry),
        Operation::post(
            "/v2/batches/ID/upgrade",
            "batches.upgrade",
            By::Operator,
            "Move it to the present version of its workflow, where nothing is under way and no row has been elsewhere",
        )
        .gives::<BatchView>(200, "The batch as it is now", BATCH)
        .refuses(&[Code::Conflict, Code::DiskFull])
        .to(upgrade::upgrade),
        Operation::delete(
            "/v2/batches/ID",
            "batches.delete",
            MANAGE,
            "Delete a finished batch: its key at once, then its rows and its file",
        )
        .gives::<ReceiptView>(200, "A receipt", r#"{"id": "bat_01KB1Y3M0Q8V5T2N7R4C6D9E0F", "deleted_at": "2026-11-24T09:30:00.000Z", "rows": 1000, "backups_until": "2026-12-24T03:00:00.000Z"}"#)
        .refuses(&[Code::Conflict, Code::DiskFull])
        .to(deletion::delete),
    ]
}

/// Signing in on the page.
fn of_sessions() -> Vec<Route> {
    vec![
        Operation::get("/session", "session.show", By::Known, "Who is signed in")
            .gives::<SessionView>(200, "Who", SESSION)
            .to(session::show),
        Operation::post("/session", "session.open", By::Anybody, "Sign in on the page")
            .gives::<SessionView>(200, "Signed in; the cookie is set", SESSION)
            .with_headers(&[("Set-Cookie", "The session.")])
            .refuses(&[Code::Unauthorized, Code::Forbidden])
            .to(session::open),
        Operation::delete("/session", "session.end", By::Anybody, "Sign out")
            .gives_other(204, "Nobody is signed in any more", None)
            .refuses(&[Code::Forbidden])
            .to(session::end),
        Operation::get("/session/ways", "session.ways", By::Anybody, "How people can sign in on the page")
            .gives::<Ways>(200, "Besides by a key", r#"{"provider": "id.example"}"#)
            .to(oidc::ways),
        Operation::get("/session/oidc", "session.provider", By::Anybody, "Go to the provider to sign in")
            .gives_other(303, "To the provider's page", None)
            .with_headers(&[("Location", "The provider's page."), ("Set-Cookie", "Binds the sign-in to the browser.")])
            .refuses(&[Code::Forbidden])
            .to(oidc::begin),
        Operation::get("/session/oidc/back", "session.back", By::Anybody, "Come back from the provider")
            .query::<Back>()
            .gives_other(303, "Signed in; the cookie is set", None)
            .with_headers(&[("Location", "The page."), ("Set-Cookie", "The session.")])
            .refuses(&[Code::Unauthorized, Code::Forbidden])
            .to(oidc::back),
    ]
}

/// What stands around: workflows, health, this description.
fn around(document: Bytes) -> Vec<Route> {
    vec![
        Operation::get(
            "/v2/workflows",
            "workflows.list",
            By::Client(Scope::Upload),
            "What files this client may upload",
        )
        .gives::<WorkflowList>(200, "Every workflow, with its columns", WORKFLOWS)
        .to(workflows::list),
        Operation::get("/livez", "health.live", By::Anybody, "Is the process alive")
            .gives::<Health>(200, "It is", r#"{"status": "ok"}"#)
            .to(health::alive),
        Operation::get("/readyz", "health.ready", By::Anybody, "Can it serve")
            .gives::<Health>(200, "It can", r#"{"status": "ok"}"#)
            .to(health::ready),
        Operation::get("/openapi.json", "openapi.show", By::Anybody, "This document")
            .gives::<Document>(
                200,
                "OpenAPI 3.1",
                r#"{"openapi": "3.1.0", "info": {"title": "dripfeed", "version": "0.1.0"}, "paths": {}, "components": {}}"#,
            )
            .to(move |_: Request| openapi::answered_with(document.clone())),
    ]
}
