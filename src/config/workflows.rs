//! `[workflows.NAME]`: the columns that a file has, and the steps that its rows go through.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::reader::Section;
use crate::{
    intake,
    model::{
        Column, ColumnKind, Dependency, RowId, Step, Workflow,
        workflow::{ExtraColumns, FailureLimit, Method, OnInvalidRow},
    },
    template,
};

/// Columns and steps that a workflow can have.
const MOST_COLUMNS: usize = 256;
const MOST_STEPS: usize = 32;
/// What the built-in clock of the downstream is taken to remember, and how long a row may take, where it is not said.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads the workflows that are given.
pub(super) fn read(
    sections: Vec<(String, Section<'_>)>,
    dependencies: &BTreeMap<String, Dependency>,
) -> BTreeMap<String, Workflow> {
    let mut paths = BTreeSet::new();
    let mut workflows = BTreeMap::new();
    for (name, section) in sections {
        super::check_name(&section, &name);
        let workflow = read_one(name.clone(), section, dependencies, &mut paths);
        workflows.insert(name, workflow);
    }
    workflows
}

fn read_one(
    name: String,
    mut section: Section<'_>,
    dependencies: &BTreeMap<String, Dependency>,
    paths: &mut BTreeSet<String>,
) -> Workflow {
    let upload_path = section.text("upload_path").unwrap_or_else(|| format!("/v2/client/users/batch/{name}"));
    if !is_upload_path(&upload_path) {
        section.fault("upload_path", "begins with \"/v2/client/\" and has only letters, digits, `-`, `_`, `.` and `/`");
    } else if !paths.insert(upload_path.clone()) {
        section.fault("upload_path", "is the path of another workflow");
    }
    let columns = section.list("columns").unwrap_or_default();
    let steps = section.list("steps").unwrap_or_default();
    let workflow = Workflow {
        upload_path,
        max_rows: section.integer("max_rows", 1_000_000, 1..=RowId::MAX_NUMBER),
        max_bytes: section.size("max_bytes", 1_000_000_000),
        max_attempts: section.integer("max_attempts", 5, 1..=1_000),
        on_invalid_row: section.word("on_invalid_row", "\"reject\" and \"skip\"").unwrap_or(OnInvalidRow::Reject),
        extra_columns: section.word("extra_columns", "\"reject\" and \"keep\"").unwrap_or(ExtraColumns::Reject),
        duplicate_window: section.duration("duplicate_window", DAY),
        give_up_after: section.duration("give_up_after", DAY),
        repeat_window: section.duration("repeat_window", DAY),
        failure_limit: FailureLimit {
            failures: section.integer("pause_after_failures", FailureLimit::DEFAULT.failures, 1..=RowId::MAX_NUMBER),
            share: section.positive("pause_failure_share").unwrap_or(FailureLimit::DEFAULT.share),
        },
        columns: read_columns(&section, columns),
        steps: read_steps(&section, steps, dependencies),
        name,
    };
    section.finish();
    workflow
}

fn is_upload_path(path: &str) -> bool {
    let rest = path.strip_prefix("/v2/client/").unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    !rest.is_empty() && !rest.contains("//") && !rest.ends_with('/') && rest.chars().all(allowed)
}

fn read_columns(workflow: &Section<'_>, sections: Vec<Section<'_>>) -> Vec<Column> {
    if sections.is_empty() || sections.len() > MOST_COLUMNS {
        workflow.fault("columns", format!("has 1 to {MOST_COLUMNS} entries"));
    }
    let mut names = BTreeSet::new();
    sections.into_iter().filter_map(|section| read_column(section, &mut names)).collect()
}

fn read_column(mut section: Section<'_>, names: &mut BTreeSet<String>) -> Option<Column> {
    let name = section.text("name").unwrap_or_default();
    if name.is_empty() || name.starts_with('_') || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        section.fault("name", "is letters, digits and `_`, and does not begin with `_`");
    }
    let column = Column {
        aliases: section.texts("aliases"),
        kind: read_kind(&mut section)?,
        required: section.flag("required", false),
        unique: section.flag("unique", false),
        max_length: section.integer("max_length", Column::DEFAULT_MAX_LENGTH as u32, 1..=1_000_000) as usize,
        name,
    };
    for spelling in column.aliases.iter().chain([&column.name]) {
        if !names.insert(spelling.trim().to_lowercase()) {
            section.fault("name", format!("`{spelling}` is the name or an alias of another column"));
        }
    }
    if let Err(problem) = intake::check::compile(&column) {
        section.fault("type", problem.to_string());
    }
    section.finish();
    Some(column)
}

fn read_kind(section: &mut Section<'_>) -> Option<ColumnKind> {
    let kind = section.text("type").unwrap_or_else(|| "text".to_owned());
    Some(match kind.as_str() {
        "text" => ColumnKind::Text,
        "email" => ColumnKind::Email,
        "phone" => ColumnKind::Phone,
        "postcode" => ColumnKind::Postcode { country: section.text("country").map(|code| code.to_uppercase()) },
        "integer" => ColumnKind::Integer,
        "decimal" => ColumnKind::Decimal,
        "date" => ColumnKind::Date { format: section.text("format") },
        "enum" => ColumnKind::Enum { values: section.texts("values") },
        "regex" => ColumnKind::Regex { pattern: section.template("pattern").unwrap_or_default() },
        _ => {
            section.fault("type", "is one of text, email, phone, postcode, integer, decimal, date, enum and regex");
            return None;
        }
    })
}

fn read_steps(
    workflow: &Section<'_>,
    sections: Vec<Section<'_>>,
    dependencies: &BTreeMap<String, Dependency>,
) -> Vec<Step> {
    if sections.is_empty() || sections.len() > MOST_STEPS {
        workflow.fault("steps", format!("has 1 to {MOST_STEPS} entries"));
    }
    let mut names = BTreeSet::new();
    sections.into_iter().filter_map(|section| read_step(section, dependencies, &mut names)).collect()
}

fn read_step(
    mut section: Section<'_>,
    dependencies: &BTreeMap<String, Dependency>,
    names: &mut BTreeSet<String>,
) -> Option<Step> {
    let name = section.text("name").unwrap_or_default();
    super::check_name(&section, &name);
    if !names.insert(name.clone()) {
        section.fault("name", "is the name of another step");
    }
    let dependency = section.text("dependency").unwrap_or_default();
    if !dependencies.contains_key(&dependency) {
        section.fault("dependency", format!("`{dependency}` is not among [dependencies]"));
    }
    let method = section.word("method", "GET, POST, PUT, PATCH and DELETE").unwrap_or(Method::Get);
    let path = section.template("path").unwrap_or_default();
    if !path.starts_with('/') {
        section.fault("path", "begins with `/`");
    }
    let step = Step {
        query: section.text_map("query", false),
        headers: section.text_map("headers", false),
        json: section.json("json"),
        save: section.text_map("save", false),
        repeat: section
            .word("repeat", "\"safe\", \"idempotency-key\" and \"never\"")
            .unwrap_or_else(|| method.default_repeat()),
        result: section.text("result"),
        name,
        dependency,
        method,
        path,
    };
    check_step(&section, &step);
    section.finish();
    Some(step)
}

fn check_step(section: &Section<'_>, step: &Step) {
    for (name, pointer) in &step.save {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            section.fault("save", format!("`{name}` is a JSON Pointer like \"/link\""));
        }
    }
    if let Some(result) = &step.result
        && !step.save.contains_key(result)
    {
        section.fault("result", format!("`{result}` is not among what this step saves"));
    }
    let texts = step.query.values().chain(step.headers.values()).chain([&step.path]).cloned();
    let in_json = step.json.as_ref().map(texts_of).unwrap_or_default();
    for text in texts.chain(in_json) {
        if let Err(problem) = template::check(&text) {
            section.fault("name", format!("a template of this step is wrong: {problem}"));
        }
    }
}

/// Every text in a JSON value.
fn texts_of(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(items) => items.iter().flat_map(texts_of).collect(),
        serde_json::Value::Object(members) => members.values().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}
