//! Where spans and numbers go: an OTLP receiver, named by the standard environment variables (OpenTelemetry specification, "OTLP
//! Exporter Configuration" and "General SDK Configuration"):
//!
//! - `OTEL_EXPORTER_OTLP_ENDPOINT`, or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `..._METRICS_ENDPOINT`: without them nothing
//!   is sent, and nothing is tried;
//! - `OTEL_EXPORTER_OTLP_PROTOCOL`: `http/protobuf` (as the specification wants it) or `grpc`;
//! - headers, time-outs, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
//!   `OTEL_SDK_DISABLED` and `OTEL_TRACES_EXPORTER=none` as everywhere.

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

use crate::{Telling, web::Web};

/// What is sent; each has variables of its own, which come before those for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// Who makes spans and sends them; `None` if nobody wants them.
pub(crate) fn provider(telling: &Telling) -> anyhow::Result<Option<SdkTracerProvider>> {
    let Some(protocol) = wanted(Signal::Traces, |name| std::env::var(name).ok())? else { return Ok(None) };
    let exporter = match protocol {
        Protocol::Grpc => SpanExporter::builder().with_tonic().build(),
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_http_client(Web::new()?)
            .build(),
    };
    let exporter = exporter.context("traces: the settings in OTEL_EXPORTER_OTLP_* cannot be used")?;
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(telling)).build()))
}

/// What the environment asks for. An empty variable counts as none (as the specification says).
pub(crate) fn wanted(signal: Signal, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Protocol>> {
    let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let special = |what: &str| {
        let names = [format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.word()), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| given(&name).map(|value| (name, value)))
    };
    let disabled = disabled(&variable);
    let none = given(&format!("OTEL_{}_EXPORTER", signal.word())).is_some_and(|value| value == "none");
    if disabled || none || special("ENDPOINT").is_none() {
        return Ok(None);
    }
    let protocol = special("PROTOCOL");
    match protocol.as_ref().map(|(name, value)| (name.as_str(), value.as_str())) {
        None | Some((_, "http/protobuf")) => Ok(Some(Protocol::Http)),
        Some((_, "grpc")) => Ok(Some(Protocol::Grpc)),
        Some((name, other)) => anyhow::bail!("{name}={other:?} is not known here; use \"http/protobuf\" or \"grpc\""),
    }
}

/// Whether nothing is to be told at all, of no kind and to nobody.
pub(crate) fn disabled(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

/// Who tells; the environment has the last word.
pub(crate) fn resource(telling: &Telling) -> Resource {
    let named = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let in_attributes = std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|all| all.contains("service.name="));
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", telling.version),
        KeyValue::new("service.namespace", "berth"),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ]);
    if !named("OTEL_SERVICE_NAME") && !in_attributes {
        resource = resource.with_service_name(telling.service.clone());
    }
    resource.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces");
        for (given, expected) in [
            (&[][..], Some(None)),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], Some(None)),
            (&[endpoint], Some(Some(Protocol::Http))),
            (&[traces], Some(Some(Protocol::Http))),
            (&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], Some(Some(Protocol::Grpc))),
            (
                &[
                    endpoint,
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
                ],
                Some(Some(Protocol::Http)),
            ),
            (&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon")], None),
            (&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")], Some(None)),
            (&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], Some(None)),
        ] {
            let variable = |name: &str| given.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned());
            assert_eq!(wanted(Signal::Traces, variable).ok(), expected, "{given:?}");
        }
    }
}
