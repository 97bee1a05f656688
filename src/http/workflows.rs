//! `GET /v2/workflows`: what can be uploaded, where, and what a file has to look like; and an empty one to fill in.

use schemars::JsonSchema;
use serde::Serialize;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    access::not_for_client,
    answer::{Answer, blocking, json},
    problem::Problem,
    request::Request,
};
use crate::{
    intake::example,
    model::{
        Column, ColumnKind, Workflow,
        workflow::{ExtraColumns, OnInvalidRow},
    },
};

/// Behind a workflow's upload path.
pub(super) const TEMPLATE: &str = "/template.csv";

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WorkflowList {
    /// In the order of their names.
    workflows: Vec<WorkflowView>,
}

/// One kind of upload.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowView {
    /// Its name.
    name: String,
    /// Where its files are posted.
    upload_path: String,
    /// A file with its header and one example row.
    template: String,
    /// The columns that a file has, in any order.
    columns: Vec<ColumnView>,
    /// What other columns come to: `reject` or `keep`.
    extra_columns: &'static str,
    /// What a file with invalid rows comes to: `reject` or `skip`.
    on_invalid_row: &'static str,
    /// How large a file may be.
    limits: LimitsView,
}

/// How large a file may be.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LimitsView {
    /// Rows.
    max_rows: u32,
    /// Bytes, inflated.
    max_bytes: u64,
}

/// A column, and what its cells must look like.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ColumnView {
    /// Its name in the header; matched trimmed, without regard to case.
    name: String,
    /// Other names that it may have there.
    aliases: Vec<String>,
    /// `text`, `email`, `phone`, `postcode`, `integer`, `decimal`, `date`, `enum` or `regex`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Whether it must be there, and every cell have a value.
    required: bool,
    /// Whether no two rows of a file may have the same value.
    unique: bool,
    /// In characters.
    max_length: usize,
    /// Of a `postcode`: the country whose it has to be; null for any country's.
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    /// Of a `date`: its strftime format; left out for ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    /// Of an `enum`: the values that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    /// Of a `regex`: what the whole cell has to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
}

impl From<&Column> for ColumnView {
    fn from(column: &Column) -> Self {
        let Column { name, aliases, kind, required, unique, max_length } = column.clone();
        let mut view = Self {
            name,
            aliases,
            kind: "text",
            required,
            unique,
            max_length,
            country: None,
            format: None,
            values: None,
            pattern: None,
        };
        view.kind = match kind {
            ColumnKind::Text => "text",
            ColumnKind::Email => "email",
            ColumnKind::Phone => "phone",
            ColumnKind::Postcode { country } => {
                view.country = country;
                "postcode"
            }
            ColumnKind::Integer => "integer",
            ColumnKind::Decimal => "decimal",
            ColumnKind::Date { format } => {
                view.format = format;
                "date"
            }
            ColumnKind::Enum { values } => {
                view.values = Some(values);
                "enum"
            }
            ColumnKind::Regex { pattern } => {
                view.pattern = Some(pattern);
                "regex"
            }
        };
        view
    }
}

impl From<&Workflow> for WorkflowView {
    fn from(workflow: &Workflow) -> Self {
        Self {
            name: workflow.name.clone(),
            upload_path: workflow.upload_path.clone(),
            template: workflow.upload_path.clone() + TEMPLATE,
            columns: workflow.columns.iter().map(ColumnView::from).collect(),
            extra_columns: match workflow.extra_columns {
                ExtraColumns::Reject => "reject",
                ExtraColumns::Keep => "keep",
            },
            on_invalid_row: match workflow.on_invalid_row {
                OnInvalidRow::Reject => "reject",
                OnInvalidRow::Skip => "skip",
            },
            limits: LimitsView { max_rows: workflow.max_rows, max_bytes: workflow.max_bytes },
        }
    }
}

pub(super) async fn list(request: Request) -> Answer {
    let list = blocking(move || {
        let caller = request.caller()?;
        caller.sees()?;
        let all = request.appliance().config.workflows.values();
        let workflows = all.filter(|workflow| caller.may_use(&workflow.name)).map(WorkflowView::from).collect();
        Ok(WorkflowList { workflows })
    });
    json(StatusCode::OK, &list.await?)
}

pub(super) async fn template(workflow: String, request: Request) -> Answer {
    let csv = blocking(move || {
        let caller = request.caller()?;
        caller.sees()?;
        if !caller.may_use(&workflow) {
            return Err(not_for_client(&workflow));
        }
        let workflow = request.appliance().config.workflows.get(&workflow);
        let workflow = workflow.ok_or_else(|| Problem::not_found("workflow"))?;
        filled_in(workflow).map_err(|error| {
            tracing::error!(event = "template.not_written", %error, "a template could not be written");
            Problem::internal()
        })
    });
    let mut response = Response::new(csv.await?.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"template.csv\""));
    Ok(response)
}

/// The header, and one row that would be accepted.
fn filled_in(workflow: &Workflow) -> Result<Vec<u8>, csv::Error> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(workflow.columns.iter().map(|column| &column.name))?;
    csv.write_record(workflow.columns.iter().map(example::cell))?;
    csv.into_inner().map_err(|error| error.into_error().into())
}
