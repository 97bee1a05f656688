//! The demo's progress in the terminal: upload, extraction, rows, calls a second against the limit.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{people::People, settings::Pace};
use crate::{cli::CliError, closing::Closing, simulator::Simulator};

/// How often the API is asked how far it is.
const POLL: Duration = Duration::from_millis(200);
/// How long one request may take; the upload is streamed and takes as long as it takes.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Somebody who uploads a file and watches what becomes of it.
pub struct Watch<'a> {
    /// The server.
    pub address: SocketAddr,
    /// The client's key.
    pub key: String,
    /// Rows of the file.
    pub rows: u32,
    /// How fast the calls may go.
    pub pace: Pace,
    /// The downstream.
    pub simulator: &'a Simulator,
    /// Ctrl-C.
    pub end: &'a Closing,
}

impl Watch<'_> {
    /// Uploads the file and returns the batch's id.
    pub fn upload(&self, people: People) -> Result<String, CliError> {
        let bar = bar("upload", u64::from(self.rows), "rows");
        let given = people.given();
        let done = Closing::default();
        let answer = std::thread::scope(|scope| {
            let (watching, moving) = (done.clone(), bar.clone());
            scope.spawn(move || {
                while !watching.wait(POLL / 4) {
                    moving.set_position(u64::from(given.load(Ordering::Relaxed)));
                }
            });
            let sent = agent()
                .post(format!("http://{}/v2/client/users/batch/invite?allow_duplicate=true", self.address))
                .header("Authorization", format!("Bearer {}", self.key))
                .header("Content-Type", "text/csv")
                .send(ureq::SendBody::from_owned_reader(people));
            done.close();
            read(sent)
        })?;
        bar.finish();
        let id = answer["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| CliError::Failed(format!("the upload was refused: {answer}")))
    }

    /// Follows a batch to its end; `None` when Ctrl-C came first.
    pub fn until_finished(&self, id: &str) -> Result<Option<Value>, CliError> {
        let extraction = bar("extraction", u64::from(self.rows), "rows");
        let work = bar("rows", u64::from(self.rows), "");
        let mut calls_before = 0;
        loop {
            let batch = self.get(&format!("/v2/batches/{id}"))?;
            let count = |name: &str| batch["counts"][name].as_u64().unwrap_or(0);
            if batch["extracted_at"].is_string() && !extraction.is_finished() {
                extraction.finish();
            }
            work.set_position(count("completed") + count("failed"));
            let calls = self.simulator.stats().calls.total();
            let per_second = (calls - calls_before) as f64 / POLL.as_secs_f64();
            calls_before = calls;
            work.set_message(format!("{per_second:.0} of {} calls/s", self.pace.calls()));
            if !batch["finished_at"].is_null() {
                work.finish_with_message("");
                return Ok(Some(batch));
            }
            if self.end.wait(POLL) {
                return Ok(None);
            }
        }
    }

    fn get(&self, path: &str) -> Result<Value, CliError> {
        let url = format!("http://{}{path}", self.address);
        read(agent().get(url).header("Authorization", format!("Bearer {}", self.key)).call())
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).proxy(None).build().into()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, CliError> {
    let failed = |error: ureq::Error| CliError::Failed(format!("the demo's server does not answer: {error}"));
    let text = answer.map_err(failed)?.body_mut().read_to_string().map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| CliError::Failed(error.to_string()))
}

fn bar(name: &'static str, length: u64, unit: &str) -> ProgressBar {
    let template = format!("  {{prefix:<11}} {{bar:32}} {{human_pos}}/{{human_len}} {unit} {{msg}}");
    // The template is ours and valid; the default style is what is left if it were not.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_prefix(name)
}
