//! What a row has been through: the requests of each step, and what their answers saved.
//!
//! It is stored as MessagePack without the names of fields. As JSON it was three times as long, and grew the row that it belongs
//! to twice on its way: most of what a settle cost was the splitting of pages. A field may be added behind the others, with a
//! default.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{Saved, Timestamp};

/// The history of a row, one entry for each step of which a request left. Encoded and sealed before it is stored.
///
/// Steps go by their names: the batch may be moved to a version of its workflow in which they have other places.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Progress {
    /// By step, in the order in which the row came to them.
    pub steps: Vec<StepProgress>,
    /// The value that the workflow calls its result (`check_id`).
    pub result: Option<Saved>,
}

/// What one step came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepProgress {
    /// The step's name.
    pub name: String,
    /// Every request that left, answered or not.
    pub requests: u32,
    /// The last answer's status.
    pub http_status: Option<u16>,
    /// When the last request left, in milliseconds since 1970.
    pub at: Option<i64>,
    /// How long the last one took.
    pub duration_ms: Option<u64>,
    /// What its answer saved; `None` until it succeeded.
    pub saved: Option<BTreeMap<String, Saved>>,
}

impl Progress {
    /// As it is stored, before it is sealed.
    pub fn encode(&self) -> Vec<u8> {
        // Numbers, names and texts: there is nothing in it that cannot be written.
        rmp_serde::to_vec(self).unwrap_or_default()
    }

    /// What was encoded; `None` where these bytes are nothing that was.
    pub fn decode(stored: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(stored).ok()
    }

    /// Everything that the steps saved, by name; where two steps save the same name, the later one's value.
    pub fn saved(&self) -> BTreeMap<String, Saved> {
        self.steps.iter().filter_map(|step| step.saved.clone()).flatten().collect()
    }

    /// How long the texts of all that are, and of these that a step is about to save.
    pub fn saved_bytes_with(&self, step: &str, saved: &BTreeMap<String, Saved>) -> usize {
        let others = self.steps.iter().filter(|noted| noted.name != step).filter_map(|noted| noted.saved.as_ref());
        others.chain([saved]).flat_map(BTreeMap::values).map(|value| value.json().len()).sum()
    }

    /// What the step of this name came to; nothing where no request of it left.
    pub fn of(&self, step: &str) -> Option<&StepProgress> {
        self.steps.iter().find(|noted| noted.name == step)
    }

    /// Notes that a request of this step left and how it ended.
    pub fn note_request(&mut self, step: &str, at: Timestamp, duration: Duration, http_status: Option<u16>) {
        let noted = self.step(step);
        noted.requests += 1;
        noted.at = Some(at.0);
        noted.duration_ms = Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        noted.http_status = http_status;
    }

    /// Notes what the answer of this step saved, and whether that is the row's result.
    pub fn note_success(&mut self, step: &str, saved: BTreeMap<String, Saved>, result: Option<&str>) {
        if let Some(value) = result.and_then(|name| saved.get(name)) {
            self.result = Some(value.clone());
        }
        self.step(step).saved = Some(saved);
    }

    fn step(&mut self, step: &str) -> &mut StepProgress {
        let noted = self.steps.iter().position(|noted| noted.name == step).unwrap_or_else(|| {
            self.steps.push(StepProgress { name: step.to_owned(), ..StepProgress::default() });
            self.steps.len() - 1
        });
        &mut self.steps[noted]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_what_each_step_saved_and_the_result() {
        let mut progress = Progress::default();
        progress.note_request("link", Timestamp(5), Duration::from_millis(7), Some(200));
        progress.note_success("link", BTreeMap::from([("link".into(), json!("l1").into())]), None);
        progress.note_request("invite", Timestamp(6), Duration::ZERO, None);
        progress.note_request("invite", Timestamp(9), Duration::ZERO, Some(201));
        progress.note_success("invite", BTreeMap::from([("check_id".into(), json!("chk_1").into())]), Some("check_id"));

        let progress = Progress::decode(&progress.encode()).expect("our own bytes");
        assert_eq!(progress.result, Some(json!("chk_1").into()));
        assert_eq!(progress.saved().len(), 2);
        let noted = progress.of("invite").map(|noted| (noted.requests, noted.http_status));
        assert_eq!((noted, progress.steps.len()), (Some((2, Some(201))), 2));
    }

    #[test]
    fn what_is_stored_is_short_and_what_is_not_ours_is_refused() {
        let mut progress = Progress::default();
        for (step, name, value) in [("address-links", "link", "l-1"), ("get-addresses", "address_id", "a-1")] {
            progress.note_request(step, Timestamp(1_764_000_000_000), Duration::from_millis(20), Some(200));
            progress.note_success(step, BTreeMap::from([(name.to_owned(), json!(value).into())]), None);
        }
        let stored = progress.encode();
        assert!(stored.len() < 120, "{}", stored.len());
        assert!((0..stored.len()).all(|cut| Progress::decode(&stored[..cut]).is_none()));
        assert!(Progress::decode(br#"{"steps": []}"#).is_none());
    }
}
