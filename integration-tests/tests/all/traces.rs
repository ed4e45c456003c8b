//! One trace for one pull: from whoever asked, over every service and job, to the registry; the same in one process and in
//! many.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use berth_testing::{
    berth::Berth,
    hostile::{Auth, Fault, Faults, HostileRegistry},
    image::{Image, ImageBuilder, Layer},
    otlp::{OtlpReceiver, Span, tree},
    shape::{Shape, Stage},
};

use crate::over_nats::{a_pull_under_way, image_of_many_layers};

/// The trace that the caller of the command is in.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// What happens in a pull of two layers, and how often.
const STAGES: &[(&str, usize)] = &[
    ("berth pull", 1),
    ("pull", 1),
    ("resolve", 1),
    ("fetch", 4),
    ("download", 4),
    ("verify", 4),
    ("publish", 4),
    ("unpack", 2),
    ("read", 2),
    ("inflate", 2),
    ("hash", 2),
    ("untar", 2),
    ("rebase", 2),
    // Each twice: where it is asked for, and where it is done.
    ("content.v1.CommitIngest", 8),
    ("metadata.v1.PrepareSnapshots", 2),
    // Not by a job: it uses what was prepared for it.
    ("metadata.v1.PrepareSnapshot", 0),
    ("metadata.v1.PutImage", 2),
];

fn image() -> Image {
    ImageBuilder::new().layer(Layer::new().random_file("a", 1 << 20, 1)).layer(Layer::new().file("b", b"x")).build()
}

async fn stage(shape: Shape, receiver: &OtlpReceiver, protocol: &str) -> Result<Stage> {
    let mut berth = Berth::new()?;
    berth.set("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint());
    berth.set("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    // As soon as there are some, so that nobody waits.
    berth.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    berth.set("TRACEPARENT", &format!("00-{TRACE}-{CALLER}-01"));
    Stage::start_on(shape, berth)
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The names from the root down to a span.
fn path<'a>(spans: &'a [Span], span: &'a Span) -> Vec<&'a str> {
    let above = spans.iter().find(|other| other.id == span.parent);
    let mut names = above.map(|above| path(spans, above)).unwrap_or_default();
    names.push(&span.name);
    names
}

async fn a_pull_is_one_trace(shape: Shape, protocol: &str) -> Result<()> {
    let receiver = OtlpReceiver::start().await?;
    let registry = HostileRegistry::start(Faults::none().always("/v2/team/app/blobs/", Fault::ToCdn)).await;
    registry.require(Auth::Token("reader".to_owned(), "s3cret".to_owned()));
    let image = image();
    registry.add_image("team/app", "v1", &image);
    let stage = stage(shape, &receiver, protocol).await?;
    let reference = registry.reference("team/app", "v1");
    stage.ok(["pull", "--plain-http", "--user", "reader:s3cret", &reference])?;
    // Spans leave when they have ended, those of each process by themselves: all are there when none is missing above
    // another one, and each stage is there as often as it was played.
    let whole = |spans: &[Span]| {
        let has = |id: &str| id == CALLER || spans.iter().any(|span| span.id == id);
        spans.iter().all(|span| has(&span.parent))
            && STAGES.iter().all(|(name, times)| named(spans, name).len() == *times)
    };
    let spans = receiver.trace(TRACE, whole);
    assert!(!named(&spans, "token").is_empty(), "one for each fetcher that asks");
    assert!(!named(&spans, "metadata.v1.CommitSnapshots").is_empty(), "one for all layers that are ready");
    let job = |kind: &str, work: &str| {
        ["berth pull", "berth.v1.Transfer/Pull", "transfer.v1.StartPull", "transfer.v1.StartPull", "pull"]
            .into_iter()
            .map(str::to_owned)
            .chain([format!("send {kind}"), format!("process {kind}"), work.to_owned()])
            .collect::<Vec<_>>()
    };
    for (name, kind) in [("fetch", "fetch"), ("unpack", "unpack")] {
        for span in named(&spans, name) {
            assert_eq!(path(&spans, span), job(kind, name));
        }
    }
    for (name, kind) in [
        ("berth.v1.Transfer/Pull", "server"),
        ("send fetch", "producer"),
        ("process fetch", "consumer"),
        ("GET", "client"),
    ] {
        assert_eq!(named(&spans, name)[0].kind, kind, "{name}");
    }
    let downloads: BTreeSet<&str> =
        named(&spans, "download").iter().map(|span| span.attributes["berth.bytes"].as_str()).collect();
    assert!(downloads.contains(image.layers[0].size.to_string().as_str()), "{downloads:?}");
    assert!(named(&spans, "download").iter().all(|span| span.events == ["range"]));

    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let expected: &[&str] = match shape {
        Shape::Alone | Shape::Daemon => &["berth"],
        Shape::Nats => &[
            "berth",
            "berth-content",
            "berth-fetcher",
            "berth-gateway",
            "berth-metadata",
            "berth-transfer",
            "berth-unpacker",
        ],
    };
    assert_eq!(services.into_iter().collect::<Vec<_>>(), expected);
    // The registry can find us in its own traces; whoever it sends us to is told nothing.
    for request in registry.seen() {
        let ours = request.traceparent.as_ref().is_some_and(|parent| parent.contains(TRACE));
        assert_eq!(ours, !request.cdn, "{request:?}");
    }
    let told = format!("{:?}", receiver.spans());
    assert!(!told.contains("s3cret") && !told.contains("Bearer"), "a secret is in a trace");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone() -> Result<()> {
    a_pull_is_one_trace(Shape::Alone, "http/protobuf").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_daemon() -> Result<()> {
    a_pull_is_one_trace(Shape::Daemon, "grpc").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nats() -> Result<()> {
    a_pull_is_one_trace(Shape::Nats, "http/protobuf").await
}

/// The second try of a job belongs to the trace as the first did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_when_a_worker_dies() -> Result<()> {
    let receiver = OtlpReceiver::start().await?;
    let mut stage = stage(Shape::Nats, &receiver, "http/protobuf").await?;
    let image = image_of_many_layers();
    let (_registry, pull, _reference) = a_pull_under_way(&stage, &image).await?;
    // Both, as nobody knows which of them has the layers.
    stage.kill("fetcher-1");
    stage.kill("fetcher-2");
    stage.start_service("fetcher-1")?;
    let finished = pull.finish()?;
    assert_eq!(finished.code, 0, "{finished:?}");
    let again = |spans: &[Span]| {
        let second = |span: &&Span| span.attributes.get("attempt").is_some_and(|attempt| attempt != "1");
        let seconds = named(spans, "process fetch").into_iter().filter(second).cloned();
        seconds.collect::<Vec<_>>()
    };
    let complete = |spans: &[Span]| {
        !again(spans).is_empty() && again(spans).iter().all(|span| path(spans, span)[0] == "berth pull")
    };
    let spans = receiver.trace(TRACE, complete);
    for span in again(&spans) {
        let fetch = spans.iter().find(|other| other.parent == span.id && other.name == "fetch");
        assert!(fetch.is_some(), "{}", tree(&spans));
    }
    Ok(())
}

/// What goes on after a restart belongs to the trace of whoever began it; who joins is only tied to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_after_a_restart_and_with_company() -> Result<()> {
    let receiver = OtlpReceiver::start().await?;
    let mut stage = stage(Shape::Nats, &receiver, "grpc").await?;
    let image = image_of_many_layers();
    let (_registry, pull, reference) = a_pull_under_way(&stage, &image).await?;
    stage.kill("transfer");
    stage.start_service("transfer")?;
    let mut joining = stage.command(["pull", "--plain-http", "--quiet", &reference]);
    joining.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let joined = berth_testing::running::Running::start(joining)?.finish()?;
    let finished = pull.finish()?;
    assert_eq!((finished.code, joined.code), (0, 0), "{finished:?} {joined:?}");
    let spans = receiver.trace(TRACE, |spans| !named(spans, "pull").is_empty());
    assert_eq!(named(&spans, "metadata.v1.EndPull").len(), 2, "{}", tree(&spans));
    let other = receiver.trace("0af7651916cd43dd8448eb211c80319c", |spans| {
        spans.iter().any(|span| span.links.iter().any(|link| link == TRACE))
    });
    assert!(named(&other, "pull").is_empty(), "it is no part of it: {}", tree(&other));
    Ok(())
}

/// Whoever reads the log finds the trace, and the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_say_which_trace_they_belong_to() -> Result<()> {
    let receiver = OtlpReceiver::start().await?;
    let registry = HostileRegistry::start(Faults::none()).await;
    registry.add_image("app", "v1", &image());
    let mut stage = stage(Shape::Alone, &receiver, "http/protobuf").await?;
    stage.serve("daemon", &["--log-format", "json"])?;
    stage.wait_until_ready();
    stage.ok(["pull", "--plain-http", "--quiet", &registry.reference("app", "v1")])?;
    let log = stage.server("daemon").log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| log.clone())?;
    let pulled = lines.iter().find(|line| line["message"] == "pulled").with_context(|| log.clone())?;
    assert_eq!(pulled["trace_id"], TRACE, "{pulled}");
    assert_eq!(pulled["span_id"].as_str().map(str::len), Some(16), "{pulled}");
    Ok(())
}
