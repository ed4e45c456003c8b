//! Waits as spans: time in which nothing was done, and why. They are what a slow pull is explained with. And spans of what
//! is over, for work that is done on threads where no span can be.

use std::{
    future::Future,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use opentelemetry::{
    KeyValue, global,
    metrics::Histogram,
    trace::{Span as _, TraceContextExt as _, Tracer as _},
};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::account;
use crate::effort::Effort;
use crate::metrics::{durations, label, seconds};

static WAITS: LazyLock<Histogram<f64>> =
    LazyLock::new(|| durations("berth.wait.duration", "How long was waited, and for what"));
static BUSY: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    durations("berth.stage.busy", "How long the stages of an unpacking were busy, each on a thread of its own")
});

static STARVED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    durations(
        "berth.stage.starved",
        "How long of it stages of an unpacking could have worked, and no processor was free",
    )
});

/// Of every wait: what for.
pub const REASON: &str = "berth.wait.reason";

/// Waits for something, which is told with its reason if it is not there at once.
pub async fn on<F: Future>(reason: &'static str, what: F) -> F::Output {
    let mut what = std::pin::pin!(what);
    // Whoever does not wait has nothing to tell.
    if let Some(done) = what.as_mut().now_or_never() {
        return done;
    }
    let span = tracing::info_span!("wait", otel.name = format_args!("wait: {reason}"), berth.wait.reason = reason);
    account::timed(reason, what.instrument(span)).await
}

/// A wait that ends now, below `span`, if it took at least so long.
pub fn past(span: &Span, reason: &'static str, since: SystemTime, worth: Duration) {
    let now = SystemTime::now();
    let waited = now.duration_since(since).unwrap_or_default();
    if waited >= worth {
        WAITS.record(seconds(waited), &[label("reason", reason)]);
        stage(span, format!("wait: {reason}"), (since, now), vec![KeyValue::new(REASON, reason)]);
    }
}

/// Work that is over, below `span`: when it began and ended, for how long of that it was busy, and for how long of that no
/// processor was free.
pub fn worked(span: &Span, name: &'static str, between: (SystemTime, SystemTime), effort: Effort) {
    BUSY.record(seconds(effort.busy), &[label("stage", name)]);
    if !effort.starved.is_zero() {
        STARVED.record(seconds(effort.starved), &[label("stage", name)]);
    }
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let (busy, starved) = (micros(effort.busy), micros(effort.starved));
    let attributes = vec![KeyValue::new("berth.busy_us", busy), KeyValue::new("berth.starved_us", starved)];
    stage(span, name.to_owned(), between, attributes);
}

fn stage(span: &Span, name: String, (since, until): (SystemTime, SystemTime), attributes: Vec<KeyValue>) {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return;
    }
    let tracer = global::tracer("berth");
    let builder = tracer.span_builder(name).with_start_time(since).with_attributes(attributes);
    builder.start_with_context(&tracer, &context).end_with_timestamp(until);
}
