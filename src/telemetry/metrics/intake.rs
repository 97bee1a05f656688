//! Files: uploads, by workflow, and what extraction makes of them.

use prometheus::{IntCounter, IntCounterVec, Result};

use super::families::Families;

/// What uploads come to where nothing refuses them; the other words are the codes of problems.
const TAKEN: [&str; 3] = ["accepted", "validated", "replayed"];
/// The refusal that a client can do most about.
const INVALID: &str = "invalid_file";

/// Uploads.
pub struct Uploads {
    ended: IntCounterVec,
    rows: IntCounterVec,
    skipped: IntCounterVec,
    bytes: IntCounterVec,
}

/// Extraction.
pub struct Extraction {
    ended: IntCounterVec,
    rows: IntCounter,
    bytes: IntCounter,
}

impl Uploads {
    pub(super) fn new<'w>(families: &Families<'_>, workflows: impl Iterator<Item = &'w String>) -> Result<Self> {
        let uploads = Self {
            ended: families.counters(
                "dripfeed_uploads_total",
                "Uploads that were answered, by workflow and outcome: accepted, validated, replayed, or a problem's code.",
                &["workflow", "outcome"],
            )?,
            rows: families.counters("dripfeed_upload_rows_total", "Rows of accepted uploads, by workflow.", &["workflow"])?,
            skipped: families.counters(
                "dripfeed_upload_skipped_rows_total",
                "Invalid rows that accepted uploads left out, by workflow.",
                &["workflow"],
            )?,
            bytes: families.counters(
                "dripfeed_upload_bytes_total",
                "Bytes of accepted uploads, inflated, by workflow.",
                &["workflow"],
            )?,
        };
        for workflow in workflows {
            uploads.accepted(workflow, 0, 0, 0);
            for outcome in TAKEN.into_iter().chain([INVALID]) {
                uploads.ended.with_label_values(&[workflow, outcome]);
            }
        }
        Ok(uploads)
    }

    /// An upload to this workflow was answered.
    pub fn answered(&self, workflow: &str, outcome: &'static str) {
        self.ended.with_label_values(&[workflow, outcome]).inc();
    }

    /// An upload has become a batch.
    pub fn accepted(&self, workflow: &str, rows: u32, skipped: u32, bytes: u64) {
        let workflow = &[workflow];
        self.rows.with_label_values(workflow).inc_by(rows.into());
        self.skipped.with_label_values(workflow).inc_by(skipped.into());
        self.bytes.with_label_values(workflow).inc_by(bytes);
    }
}

impl Extraction {
    pub(super) fn new(families: &Families<'_>) -> Result<Self> {
        let extraction = Self {
            ended: families.counters(
                "dripfeed_extractions_total",
                "Extractions that ended, by outcome: queued (every row is there), stopped, later (tried again) or failed.",
                &["outcome"],
            )?,
            rows: families.counter("dripfeed_extracted_rows_total", "Rows written to the work table.")?,
            bytes: families.counter(
                "dripfeed_extracted_bytes_total",
                "Bytes of rows written to the work table, sealed.",
            )?,
        };
        for outcome in ["queued", "stopped", "later", "failed"] {
            extraction.ended.with_label_values(&[outcome]);
        }
        Ok(extraction)
    }

    /// An extraction ended.
    pub fn ended(&self, outcome: &'static str) {
        self.ended.with_label_values(&[outcome]).inc();
    }

    /// Rows were written.
    pub fn wrote(&self, rows: usize, bytes: usize) {
        self.rows.inc_by(rows as u64);
        self.bytes.inc_by(bytes as u64);
    }
}
