//! A receiver of traces that others wrote (rotel) accepts ours, over gRPC and over HTTP, and shows the same spans as ours did.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use berth_testing::{
    berth::Berth,
    hostile::{Faults, HostileRegistry},
    image::{ImageBuilder, Layer},
    port::Port,
    process::Server,
    shape::{Shape, Stage},
    wait::{Seen, wait_for},
};

use crate::observability::searches_for_traces;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What a pull of one layer cannot do without; the whole tree is held against the contract in `traces.rs`.
const STAGES: &[&str] =
    &["berth pull", "pull", "resolve", "process fetch", "download", "verify", "publish", "untar", "rebase"];

/// The running receiver, and where it listens.
struct Rotel {
    server: Server,
    grpc: Port,
    http: Port,
}

/// A span as rotel writes it.
#[derive(Clone, Debug, Default)]
struct Shown {
    service: String,
    trace: String,
    parent: String,
    id: String,
    name: String,
}

impl Rotel {
    fn start(scratch: &Path) -> Result<Self> {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/rotel");
        let found = Command::new(installed).output().context("run scripts/rotel")?;
        ensure!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let (grpc, http) = (Port::reserve()?, Port::reserve()?);
        let mut command = Command::new(String::from_utf8(found.stdout)?.trim());
        command
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .arg(format!("--otlp-grpc-endpoint=127.0.0.1:{}", grpc.number()))
            .arg(format!("--otlp-http-endpoint=127.0.0.1:{}", http.number()));
        let mut server = Server::start("rotel", &command, &scratch.join("rotel.log"))?;
        server.wait_for_port(grpc.number())?;
        server.wait_for_port(http.number())?;
        Ok(Self { server, grpc, http })
    }

    /// What it has shown so far.
    fn shown(&self) -> Vec<Shown> {
        let mut spans: Vec<Shown> = Vec::new();
        let mut service = String::new();
        for line in self.server.log().lines() {
            let line = line.trim_start();
            if line.starts_with("Span #") {
                spans.push(Shown { service: service.clone(), ..Shown::default() });
            }
            if let Some(name) = line.strip_prefix("-> service.name: Str(") {
                name.trim_end_matches(')').clone_into(&mut service);
            }
            let Some((key, value)) = line.split_once(':') else { continue };
            let Some(span) = spans.last_mut() else { continue };
            let place = match key.trim_end() {
                "Trace ID" => &mut span.trace,
                "Parent ID" => &mut span.parent,
                "ID" => &mut span.id,
                "Name" => &mut span.name,
                _ => continue,
            };
            value.trim().clone_into(place);
        }
        spans
    }

    /// The spans of the caller's trace, when none is missing above another one.
    fn trace(&self) -> Vec<Shown> {
        wait_for("a whole trace at rotel", Duration::from_secs(30), || {
            let spans: Vec<Shown> = self.shown().into_iter().filter(|span| span.trace == TRACE).collect();
            let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).chain([CALLER]).collect();
            let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            let whole = spans.iter().all(|span| known.contains(span.parent.as_str()))
                && STAGES.iter().all(|stage| names.contains(stage));
            if whole { Seen::Yes(spans.clone()) } else { Seen::NotYet(format!("{names:?}")) }
        })
    }
}

async fn a_pull_is_shown(shape: Shape, protocol: &str) -> Result<Vec<Shown>> {
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let registry = HostileRegistry::start(Faults::none()).await;
    registry.add_image("app", "v1", &image);
    let mut berth = Berth::new()?;
    let rotel = Rotel::start(berth.scratch())?;
    let port = if protocol == "grpc" { &rotel.grpc } else { &rotel.http };
    berth.set("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", port.number()));
    berth.set("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    berth.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    berth.set("TRACEPARENT", &format!("00-{TRACE}-{CALLER}-01"));
    let stage = Stage::start_on(shape, berth)?;
    stage.ok(["pull", "--plain-http", &registry.reference("app", "v1")])?;

    let spans = rotel.trace();
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "each span once, each with an id of its own");
    let pulls: Vec<&Shown> = spans.iter().filter(|span| span.name == "berth pull").collect();
    assert!(matches!(pulls[..], [pull] if pull.parent == CALLER), "the one that the caller sees: {pulls:?}");
    Ok(spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_from_one_process() -> Result<()> {
    let spans = a_pull_is_shown(Shape::Alone, "http/protobuf").await?;
    assert!(spans.iter().all(|span| span.service == "berth"), "{spans:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc_from_many() -> Result<()> {
    let spans = a_pull_is_shown(Shape::Nats, "grpc").await?;
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    for service in ["berth", "berth-content", "berth-fetcher", "berth-metadata", "berth-transfer", "berth-unpacker"] {
        assert!(services.contains(service), "{service} is not among {services:?}");
    }
    // What Grafana looks for in a deployment is there.
    let searches = searches_for_traces()?;
    assert!(!searches.is_empty(), "the dashboard of one pull finds it by a search");
    for (service, name) in searches {
        assert!(spans.iter().any(|span| span.service == service && span.name == name), "no {name} of {service}");
    }
    Ok(())
}
