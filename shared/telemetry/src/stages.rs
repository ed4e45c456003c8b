//! Durations of stages, waits, calls and requests, taken from the spans that are there anyway.

use std::{fmt, time::Instant};

use opentelemetry::metrics::{Counter, Histogram};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::metrics::{counter, durations, label, seconds};

/// Spans that are stages of a pull, of an unpacking or of upkeep.
const STAGES: [&str; 15] = [
    "pull",
    "resolve",
    "token",
    "fetch",
    "download",
    "verify",
    "publish",
    "record",
    "unpack",
    "rebase",
    "flush",
    "gc",
    "repair",
    "registry.request",
    "relay",
];

/// Looks at spans as they begin and end.
pub(crate) struct Durations {
    stages: Histogram<f64>,
    waits: Histogram<f64>,
    calls: Histogram<f64>,
    failures: Counter<u64>,
    requests: Histogram<f64>,
}

/// What is known of an open span.
struct Open {
    since: Instant,
    said: Said,
}

/// Fields that become labels; all of them hold words of ours.
#[derive(Default)]
struct Said {
    subject: Option<String>,
    method: Option<String>,
    service: Option<String>,
    reason: Option<String>,
    code: Option<String>,
}

impl Durations {
    pub(crate) fn new() -> Self {
        Self {
            stages: durations("berth.stage.duration", "How long stages take, those that failed too"),
            waits: durations("berth.wait.duration", "How long was waited, and for what"),
            calls: durations("berth.call.duration", "How long services take for calls of others"),
            failures: counter("berth.call.failures", "{call}", "Calls that services answered with an error"),
            requests: durations("berth.grpc.duration", "How long requests of clients take"),
        }
    }
}

impl<S> Layer<S> for Durations
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let name = attributes.metadata().name();
        if !STAGES.contains(&name) && !matches!(name, "wait" | "bus.serve" | "grpc") {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let mut said = Said::default();
        attributes.record(&mut said);
        span.extensions_mut().insert(Open { since: Instant::now(), said });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut open.said);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(&id) else { return };
        let Some(Open { since, said }) = span.extensions_mut().remove::<Open>() else { return };
        let took = seconds(since.elapsed());
        match (span.name(), said) {
            ("wait", Said { reason: Some(reason), .. }) => self.waits.record(took, &[label("reason", reason)]),
            ("bus.serve", Said { subject: Some(subject), code, .. }) => {
                let subject = label("subject", subject);
                if let Some(code) = code {
                    self.failures.add(1, &[subject.clone(), label("code", code)]);
                }
                self.calls.record(took, &[subject]);
            }
            ("grpc", Said { service: Some(service), method: Some(method), .. }) => {
                self.requests.record(took, &[label("service", service), label("method", method)]);
            }
            (stage, _) if STAGES.contains(&stage) => self.stages.record(took, &[label("stage", stage)]),
            _ => {}
        }
    }
}

impl Said {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "subject" => self.subject = Some(value),
            "rpc.method" => self.method = Some(value),
            "rpc.service" => self.service = Some(value),
            "berth.wait.reason" => self.reason = Some(value),
            "code" => self.code = Some(value),
            _ => {}
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "code" {
            self.take(field, format!("{value:?}"));
        }
    }
}
