//! A workflow: what a row of a batch means. The columns it must have, and the steps it goes through.
//!
//! These are plain values, already checked by `config`; `intake` compiles the columns into checks, `downstream` the
//! steps into templates.
//!
//! Batches keep the workflow that they were accepted under, so its JSON outlives the release that wrote it: a field that
//! comes later has a `#[serde(default)]` that means what was so before, and one that goes is passed over. A test holds the
//! form.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// One kind of upload, and what is done with each of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its name: `invite`.
    pub name: String,
    /// Where its files are posted: `/v2/client/users/batch/invite`.
    pub upload_path: String,
    /// The most rows that a file may have.
    pub max_rows: u32,
    /// The most bytes that a file may have, inflated.
    pub max_bytes: u64,
    /// Counted attempts of one step before the row fails.
    pub max_attempts: u32,
    /// What a file with invalid rows comes to.
    pub on_invalid_row: OnInvalidRow,
    /// What columns that the workflow does not name come to.
    pub extra_columns: ExtraColumns,
    /// How long the same file of the same client is refused.
    #[serde(rename = "duplicate_window_ms", with = "milliseconds")]
    pub duplicate_window: Duration,
    /// From a row's first request; what is not settled then fails.
    #[serde(rename = "give_up_after_ms", with = "milliseconds")]
    pub give_up_after: Duration,
    /// How long the downstream honours an `Idempotency-Key`.
    #[serde(rename = "repeat_window_ms", with = "milliseconds")]
    pub repeat_window: Duration,
    /// How many failed rows make a batch pause itself.
    pub failure_limit: FailureLimit,
    /// The columns that a file has, in no particular order. Never empty.
    pub columns: Vec<Column>,
    /// The calls that a row goes through, in order. Never empty.
    pub steps: Vec<Step>,
}

/// What pauses a batch: so many rows that failed among the last that ended, as many as make so many failures this share.
/// A wrong token costs fifty rows then, and not a million, and so does one that dies after half of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FailureLimit {
    /// At least so many.
    pub failures: u32,
    /// More than 0; above 1 no batch ever pauses itself.
    pub share: f64,
}

impl FailureLimit {
    /// Where the configuration does not say.
    pub const DEFAULT: Self = Self { failures: 50, share: 0.5 };

    /// How many of the last rows are looked at.
    pub fn window(self) -> u64 {
        (f64::from(self.failures) / self.share) as u64
    }
}

/// Whether one bad row refuses the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInvalidRow {
    /// The whole upload is refused.
    Reject,
    /// The valid rows go on; the others are listed as skipped.
    Skip,
}

/// What to do with columns that the workflow does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtraColumns {
    /// The file is refused (`unknown_column`).
    Reject,
    /// They are kept, and at hand in templates and results.
    Keep,
}

/// A column, and what its cells must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in templates, and in the header (matched trimmed, without regard to case).
    pub name: String,
    /// Other names that a header may have for it.
    pub aliases: Vec<String>,
    /// The check for a cell that is not empty.
    #[serde(flatten)]
    pub kind: ColumnKind,
    /// Whether the column must be there and its cells not be empty or white space.
    pub required: bool,
    /// Whether no two rows of a file may have the same value (on e-mail without regard to ASCII case).
    pub unique: bool,
    /// In characters.
    pub max_length: usize,
}

impl Column {
    /// `max_length` where the configuration does not say.
    pub const DEFAULT_MAX_LENGTH: usize = 1_000;
}

/// The type of a column's cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ColumnKind {
    /// Anything.
    Text,
    /// One e-mail address.
    Email,
    /// A telephone number as people write it.
    Phone,
    /// A postal code, of any country or of one (ISO 3166 alpha-2, upper case).
    Postcode { country: Option<String> },
    /// A whole number.
    Integer,
    /// A number with a decimal point.
    Decimal,
    /// A calendar date: ISO 8601, or as the strftime `format` says.
    Date { format: Option<String> },
    /// One of these values, exactly.
    Enum { values: Vec<String> },
    /// The whole cell matches this regular expression.
    Regex { pattern: String },
}

/// One HTTP call of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name: `invite-create`.
    pub name: String,
    /// The dependency it calls.
    pub dependency: String,
    /// The request's method.
    pub method: Method,
    /// A template: the path behind the dependency's base URL, beginning with `/`.
    pub path: String,
    /// Templates: the query's parameters.
    pub query: BTreeMap<String, String>,
    /// Templates: headers besides the dependency's own.
    pub headers: BTreeMap<String, String>,
    /// A JSON body in which every string is a template.
    pub json: Option<serde_json::Value>,
    /// What to keep of the answer: name -> JSON Pointer (RFC 6901).
    pub save: BTreeMap<String, String>,
    /// What makes a second request harmless.
    pub repeat: Repeat,
    /// The saved name whose value is the row's result (`check_id`).
    pub result: Option<String>,
}

impl Step {
    /// Every template of it.
    pub fn templates(&self) -> Vec<&str> {
        let mut templates = vec![self.path.as_str()];
        templates.extend(self.query.values().chain(self.headers.values()).map(String::as_str));
        let mut left: Vec<_> = self.json.iter().collect();
        while let Some(part) = left.pop() {
            match part {
                serde_json::Value::String(text) => templates.push(text),
                serde_json::Value::Array(list) => left.extend(list),
                serde_json::Value::Object(members) => left.extend(members.values()),
                _ => {}
            }
        }
        templates
    }
}

/// The methods that a step can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "they are HTTP's own")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// What `repeat` is where a step does not say: POST and PATCH are not idempotent by RFC 9110.
    pub fn default_repeat(self) -> Repeat {
        match self {
            Self::Post | Self::Patch => Repeat::IdempotencyKey,
            Self::Get | Self::Put | Self::Delete => Repeat::Safe,
        }
    }
}

/// May a request whose answer never came be sent again?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeat {
    /// Yes, at any time.
    Safe,
    /// Yes, with the same `Idempotency-Key`, while the downstream still honours it.
    IdempotencyKey,
    /// No: a person decides.
    Never,
}

/// Durations as they are kept: whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    /// With something of everything that can be said today.
    fn workflow() -> Workflow {
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            aliases: Vec::new(),
            kind,
            required: false,
            unique: false,
            max_length: Column::DEFAULT_MAX_LENGTH,
        };
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Workflow {
            name: "invite".to_owned(),
            upload_path: "/v2/client/users/batch/invite".to_owned(),
            max_rows: 1_000,
            max_bytes: 5_000_000_000,
            max_attempts: 5,
            on_invalid_row: OnInvalidRow::Skip,
            extra_columns: ExtraColumns::Keep,
            duplicate_window: DAY,
            give_up_after: DAY * 2,
            repeat_window: Duration::from_millis(1_500),
            failure_limit: FailureLimit::DEFAULT,
            columns: vec![
                Column {
                    aliases: vec!["mail".to_owned()],
                    required: true,
                    unique: true,
                    max_length: 254,
                    ..column("email", ColumnKind::Email)
                },
                column("note", ColumnKind::Text),
                column("phone", ColumnKind::Phone),
                column("post", ColumnKind::Postcode { country: Some("GB".to_owned()) }),
                column("age", ColumnKind::Integer),
                column("price", ColumnKind::Decimal),
                column("born", ColumnKind::Date { format: None }),
                column("kind", ColumnKind::Enum { values: vec!["a".to_owned()] }),
                column("code", ColumnKind::Regex { pattern: "[A-Z]+".to_owned() }),
            ],
            steps: vec![Step {
                name: "create".to_owned(),
                dependency: "crm".to_owned(),
                method: Method::Post,
                path: "/contacts".to_owned(),
                query: texts(&[("q", "{{ row.email }}")]),
                headers: texts(&[("X-Token", "s3cret")]),
                json: Some(json!({ "z": "{{ row.note }}", "a": [1.5, null, true] })),
                save: texts(&[("id", "/id")]),
                repeat: Repeat::IdempotencyKey,
                result: Some("id".to_owned()),
            }],
        }
    }

    /// As the first release kept it. What is in databases is never written anew, so this text may only ever be added to by
    /// another one beside it.
    const KEPT: &str = r#"{"name":"invite","upload_path":"/v2/client/users/batch/invite","max_rows":1000,"max_bytes":5000000000,"max_attempts":5,"on_invalid_row":"skip","extra_columns":"keep","duplicate_window_ms":86400000,"give_up_after_ms":172800000,"repeat_window_ms":1500,"failure_limit":{"failures":50,"share":0.5},"columns":[{"name":"email","aliases":["mail"],"type":"email","required":true,"unique":true,"max_length":254},{"name":"note","aliases":[],"type":"text","required":false,"unique":false,"max_length":1000},{"name":"phone","aliases":[],"type":"phone","required":false,"unique":false,"max_length":1000},{"name":"post","aliases":[],"type":"postcode","country":"GB","required":false,"unique":false,"max_length":1000},{"name":"age","aliases":[],"type":"integer","required":false,"unique":false,"max_length":1000},{"name":"price","aliases":[],"type":"decimal","required":false,"unique":false,"max_length":1000},{"name":"born","aliases":[],"type":"date","format":null,"required":false,"unique":false,"max_length":1000},{"name":"kind","aliases":[],"type":"enum","values":["a"],"required":false,"unique":false,"max_length":1000},{"name":"code","aliases":[],"type":"regex","pattern":"[A-Z]+","required":false,"unique":false,"max_length":1000}],"steps":[{"name":"create","dependency":"crm","method":"POST","path":"/contacts","query":{"q":"{{ row.email }}"},"headers":{"X-Token":"s3cret"},"json":{"z":"{{ row.note }}","a":[1.5,null,true]},"save":{"id":"/id"},"repeat":"idempotency-key","result":"id"}]}"#;

    #[test]
    fn what_is_kept_is_read_and_written_as_ever() {
        assert_eq!(serde_json::from_str::<Workflow>(KEPT).expect("our own form"), workflow());
        assert_eq!(serde_json::to_string(&workflow()).expect("JSON"), KEPT);
    }

    #[test]
    fn fields_that_nobody_knows_are_passed_over() {
        let mut kept: Value = serde_json::from_str(KEPT).expect("JSON");
        kept["later"] = json!({ "a": 1 });
        kept["columns"][0]["later"] = json!(true);
        kept["columns"][3]["later"] = json!("x");
        kept["steps"][0]["later"] = json!([]);
        assert_eq!(serde_json::from_value::<Workflow>(kept).expect("more than is known"), workflow());
    }
}
