//! `[traces]`

use std::collections::BTreeMap;

use super::{dependencies::is_base_url, reader::Section, secret::Secret};

/// One row of a hundred, where it is not said.
const SAMPLE: f64 = 0.01;
/// Where it is not said.
const SERVICE_NAME: &str = "dripfeed";

/// `[traces]`: where the ways of rows are told, by OpenTelemetry's protocol over HTTP.
#[derive(Debug, Clone)]
pub struct Traces {
    /// `endpoint`: the whole address of a collector's receiver, like `http://collector:4318/v1/traces`. Left out: nothing
    /// is told.
    pub endpoint: Option<String>,
    /// `sample`: the share of rows that are told, each with its whole way or not at all. Default 0.01.
    pub sample: f64,
    /// `service_name`: what the collector knows this appliance by. Default `dripfeed`.
    pub service_name: String,
    /// `headers`: sent with every request. Values may be secrets.
    pub headers: BTreeMap<String, Secret>,
}

impl Traces {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let endpoint = section.text("endpoint");
        if endpoint.as_deref().is_some_and(|endpoint| !is_base_url(endpoint)) {
            section.fault("endpoint", "is a URL like \"http://collector:4318/v1/traces\"");
        }
        let sample = section.positive("sample").unwrap_or(SAMPLE);
        if sample > 1.0 {
            section.fault("sample", "is a share: above 0, and 1 at most");
        }
        let headers = section.text_map("headers", true);
        let traces = Self {
            endpoint,
            sample,
            service_name: section.text("service_name").unwrap_or_else(|| SERVICE_NAME.to_owned()),
            headers: headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        };
        section.finish();
        traces
    }
}
