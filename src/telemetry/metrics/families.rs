//! Families of metrics: made, registered, and given their values.

use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, Result, core::Collector,
};

/// From a fraction of a millisecond, for what happens on this machine.
pub(super) const QUICK: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Up to half a minute, for what is waited for over a network.
pub(super) const SLOW: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Makes families in one registry.
pub(super) struct Families<'r>(pub &'r Registry);

impl Families<'_> {
    fn register<F: Collector + Clone + 'static>(&self, family: F) -> Result<F> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub fn counting_gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }

    /// A counter that somebody else keeps.
    pub fn total(&self, name: &str, help: &str, value: f64) -> Result<()> {
        self.register(Counter::new(name, help)?)?.inc_by(value);
        Ok(())
    }

    /// A gauge of one value.
    pub fn gauge(&self, name: &str, help: &str, value: f64) -> Result<()> {
        self.register(Gauge::new(name, help)?)?.set(value);
        Ok(())
    }

    /// A gauge that is left out where nobody knows its value.
    pub fn known(&self, name: &str, help: &str, value: Option<f64>) -> Result<()> {
        value.map_or(Ok(()), |value| self.gauge(name, help, value))
    }

    /// A gauge for each of some labels.
    pub fn gauges<'v, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: impl IntoIterator<Item = ([&'v str; N], f64)>,
    ) -> Result<()> {
        let family = self.register(GaugeVec::new(Opts::new(name, help), &labels)?)?;
        values.into_iter().for_each(|(labels, value)| family.with_label_values(&labels).set(value));
        Ok(())
    }
}
