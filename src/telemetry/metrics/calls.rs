//! Calls, permits and gates, by dependency.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Result};

use super::families::{Families, SLOW};
use crate::downstream::{CallEnd, GateReason, Meter, WaitReason};

/// The meters of all dependencies.
pub struct Calls(BTreeMap<String, Arc<OfDependency>>);

/// One dependency's.
struct OfDependency {
    /// By [`CallEnd`].
    ended: Vec<IntCounter>,
    took: Histogram,
    waited: Histogram,
    turned_away: TurnedAway,
    /// By [`GateReason`].
    closings: Vec<IntCounter>,
}

struct TurnedAway {
    rate: IntCounter,
    concurrency: IntCounter,
    gate: IntCounter,
    ledger: IntCounter,
    lack: IntCounter,
    closing: IntCounter,
}

struct All {
    ended: IntCounterVec,
    took: HistogramVec,
    waited: HistogramVec,
    turned_away: IntCounterVec,
    closings: IntCounterVec,
}

impl Calls {
    pub(super) fn new<'d>(families: &Families<'_>, dependencies: impl Iterator<Item = &'d String>) -> Result<Self> {
        let all = All {
            ended: families.counters(
                "dripfeed_calls_total",
                "Calls that ended, by dependency and outcome.",
                &["dependency", "outcome"],
            )?,
            took: families.histograms(
                "dripfeed_call_duration_seconds",
                "Time from when a call left until its answer was read or given up, by dependency.",
                &["dependency"],
                SLOW,
            )?,
            waited: families.histograms(
                "dripfeed_permit_wait_seconds",
                "Time that calls waited for their permit (rate, concurrency and gate in one), by dependency.",
                &["dependency"],
                SLOW,
            )?,
            turned_away: families.counters(
                "dripfeed_permits_refused_total",
                "Rows given back because no permit came in time, by dependency and what stood in the way.",
                &["dependency", "reason"],
            )?,
            closings: families.counters(
                "dripfeed_gate_closings_total",
                "Times that a gate closed, or closed again after its probe failed, by dependency and reason.",
                &["dependency", "reason"],
            )?,
        };
        Ok(Self(dependencies.map(|name| (name.clone(), Arc::new(OfDependency::new(&all, name)))).collect()))
    }

    /// The meter of a dependency.
    pub fn of(&self, dependency: &str) -> Arc<dyn Meter> {
        match self.0.get(dependency) {
            Some(meter) => meter.clone(),
            None => Arc::new(()),
        }
    }
}

impl OfDependency {
    fn new(all: &All, name: &str) -> Self {
        let turned_away = |reason| all.turned_away.with_label_values(&[name, reason]);
        Self {
            ended: CallEnd::ALL.iter().map(|end| all.ended.with_label_values(&[name, end.as_str()])).collect(),
            took: all.took.with_label_values(&[name]),
            waited: all.waited.with_label_values(&[name]),
            turned_away: TurnedAway {
                rate: turned_away("rate"),
                concurrency: turned_away("concurrency"),
                gate: turned_away("gate"),
                ledger: turned_away("ledger"),
                lack: turned_away("lack"),
                closing: turned_away("closing"),
            },
            closings: GateReason::ALL
                .iter()
                .map(|reason| all.closings.with_label_values(&[name, reason.as_str()]))
                .collect(),
        }
    }
}

impl Meter for OfDependency {
    fn permitted(&self, waited: Duration) {
        self.waited.observe(waited.as_secs_f64());
    }

    fn turned_away(&self, why: WaitReason) {
        match why {
            WaitReason::Rate => &self.turned_away.rate,
            WaitReason::Concurrency => &self.turned_away.concurrency,
            WaitReason::Gate(_) => &self.turned_away.gate,
            WaitReason::Ledger => &self.turned_away.ledger,
            WaitReason::Lack(_) => &self.turned_away.lack,
            WaitReason::Closing => &self.turned_away.closing,
        }
        .inc();
    }

    fn called(&self, end: CallEnd, took: Duration) {
        self.ended[end as usize].inc();
        self.took.observe(took.as_secs_f64());
    }

    fn gate_closed(&self, reason: GateReason) {
        self.closings[reason as usize].inc();
    }
}
