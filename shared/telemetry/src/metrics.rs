//! Numbers: who keeps them, and where they go. One set of instruments, read by Prometheus from the process itself and sent by
//! OTLP to whomever the environment names.
//!
//! Labels are bounded: they are words of ours, or go through [`Few`].

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};

use crate::{
    Telling,
    otlp::{self, Protocol, Signal},
    web::Web,
};

/// Upper ends of the buckets of durations, in seconds: from a record's write to a large image's pull.
const SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The numbers of this process.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) provider: SdkMeterProvider,
    pub(crate) registry: Registry,
}

/// Starts keeping numbers, if anybody can want them: a process that lasts, or a receiver that the environment names.
pub(crate) fn start(telling: &Telling) -> anyhow::Result<Option<Numbers>> {
    let sent = otlp::wanted(Signal::Metrics, |name| std::env::var(name).ok())?;
    if (sent.is_none() && !telling.lasts) || otlp::disabled(|name| std::env::var(name).ok()) {
        return Ok(None);
    }
    let registry = Registry::new();
    let read = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .context("metrics")?;
    let mut provider = SdkMeterProvider::builder().with_resource(otlp::resource(telling)).with_reader(read);
    if let Some(protocol) = sent {
        let exporter = match protocol {
            Protocol::Grpc => MetricExporter::builder().with_tonic().build(),
            Protocol::Http => MetricExporter::builder()
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_http_client(Web::new()?)
                .build(),
        };
        let exporter = exporter.context("metrics: the settings in OTEL_EXPORTER_OTLP_* cannot be used")?;
        provider = provider.with_periodic_exporter(exporter);
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    Ok(Some(Numbers { provider, registry }))
}

impl Numbers {
    /// All numbers as Prometheus reads them (its text format, version 0.0.4).
    pub(crate) fn shown(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Who makes instruments. Before [`crate::start`], and where nobody wants numbers, they count nothing.
#[must_use]
pub fn meter() -> Meter {
    global::meter("berth")
}

/// Something that is counted. Names have dots and no unit; Prometheus gets both its way.
#[must_use]
pub fn counter(name: &'static str, unit: &'static str, what: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_unit(unit).with_description(what).build()
}

/// How long something takes.
#[must_use]
pub fn durations(name: &'static str, what: &'static str) -> Histogram<f64> {
    meter().f64_histogram(name).with_unit("s").with_description(what).with_boundaries(SECONDS.to_vec()).build()
}

/// A label of ours.
#[must_use]
pub fn label(key: &'static str, value: impl Into<opentelemetry::Value>) -> KeyValue {
    KeyValue::new(key, value)
}

/// Values of a label that come from outside, such as hosts: the first few keep their names, all others are "other".
#[derive(Debug)]
pub struct Few {
    most: usize,
    known: Mutex<HashSet<String>>,
}

impl Few {
    /// So many keep their names.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// The value, or "other".
    pub fn name(&self, value: &str) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(value) || (known.len() < self.most && known.insert(value.to_owned())) {
            return value.to_owned();
        }
        "other".to_owned()
    }
}

/// Seconds, as histograms take them.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn only_the_first_few_have_names() {
        let few = Few::new(2);
        let names: Vec<String> = ["a", "b", "c", "a", "d"].into_iter().map(|value| few.name(value)).collect();
        assert_eq!(names, ["a", "b", "other", "a", "other"]);
    }
}
