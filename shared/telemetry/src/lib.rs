//! What the program tells of itself while it runs: log lines, traces, and numbers.
//!
//! Spans are made with `tracing` everywhere; here it is decided who sees them. Traces leave by OTLP, as the standard
//! environment variables say ([`otlp`]); the context that ties the spans of several processes into one trace is read and
//! written by [`context`], and waits become spans by [`wait`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod account;
pub mod context;
pub mod effort;
mod endpoint;
pub mod lag;
mod logs;
pub mod metrics;
mod otlp;
mod process;
mod stages;
pub mod wait;
mod web;

use std::{io, net::SocketAddr, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use metrics::Numbers;

pub use endpoint::Endpoint;
pub use logs::{Format, STEP};

/// How long the last spans may take to leave when the program ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// What is told, and as whom.
#[derive(Clone, Debug)]
pub struct Telling {
    /// A level (`info`) or directives (`warn,berth_fetcher=debug`), for the log.
    pub filter: String,
    /// Of log lines.
    pub format: Format,
    /// `service.name` of this process, unless the environment names another.
    pub service: String,
    /// `service.version`.
    pub version: &'static str,
    /// Whether this process stays, so that its numbers can be asked for.
    pub lasts: bool,
}

/// Keeps traces going; what is still here when it is dropped leaves then, within a bound.
#[must_use = "dropping it ends the traces"]
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    numbers: Option<Numbers>,
}

/// Starts logging to standard error, and traces if the environment says where to. Needs a tokio runtime.
pub fn start(telling: Telling) -> anyhow::Result<Telemetry> {
    let provider = otlp::provider(&telling)?;
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("berth"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(logs::ours())
    });
    let numbers = metrics::start(&telling)?;
    let durations = numbers.as_ref().map(|_| {
        process::observe();
        stages::Durations::new().with_filter(logs::ours())
    });
    tracing_subscriber::registry()
        .with(spans)
        .with(durations)
        .with(logs::layer(&telling.filter, telling.format)?)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))?;
    Ok(Telemetry { provider, numbers })
}

impl Telemetry {
    /// Whether somebody is told of spans.
    #[must_use]
    pub fn has_traces(&self) -> bool {
        self.provider.is_some()
    }

    /// An address where the numbers can be read over HTTP.
    pub async fn endpoint(&self, address: SocketAddr) -> io::Result<Endpoint> {
        Endpoint::bind(address, self.numbers.clone()).await
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(FAREWELL)
        {
            tracing::debug!(%error, "the last spans did not leave");
        }
        if let Some(numbers) = self.numbers.take()
            && let Err(error) = numbers.provider.shutdown_with_timeout(FAREWELL)
        {
            tracing::debug!(%error, "the last numbers did not leave");
        }
    }
}
