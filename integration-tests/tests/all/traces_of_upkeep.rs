//! Collections, repairs and the relay are traces of their own, tied to those that they came of.

use std::fs;

use anyhow::{Context as _, Result};
use berth_testing::{
    berth::Berth,
    hostile::{Faults, HostileRegistry},
    image::{Image, ImageBuilder, Layer},
    otlp::{OtlpReceiver, Span, tree},
    running::Running,
    shape::{Shape, Stage},
};

const PULLS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const REMOVES: &str = "0af7651916cd43dd8448eb211c80319c";
const CHECKS: &str = "11111111111111111111111111111111";

async fn stage(shape: Shape, receiver: &OtlpReceiver) -> Result<Stage> {
    let mut berth = Berth::new()?;
    berth.set("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint());
    berth.set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    berth.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    Stage::start_on(shape, berth)
}

/// Runs a command in a trace of its own.
fn traced(stage: &Stage, trace: &str, args: &[&str]) -> Result<()> {
    let mut command = stage.command(args);
    command.env("TRACEPARENT", format!("00-{trace}-00f067aa0ba902b7-01"));
    let finished = Running::start(command)?.finish()?;
    assert_eq!(finished.code, 0, "{args:?}: {finished:?}");
    Ok(())
}

fn image() -> Image {
    ImageBuilder::new().layer(Layer::new().random_file("a", 1 << 16, 1)).layer(Layer::new().file("b", b"x")).build()
}

/// A root of a trace of its own that is tied to another trace, waited for.
fn root(receiver: &OtlpReceiver, name: &str, tied_to: &str) -> Span {
    let found = |spans: &[Span]| {
        let is_it = |span: &&Span| span.name == name && span.links.iter().any(|link| link == tied_to);
        spans.iter().find(is_it).cloned()
    };
    let spans = receiver.all(&format!("{name} with a link to {tied_to}"), |spans| found(spans).is_some());
    let span = found(&spans).unwrap_or_else(|| panic!("{}", tree(&spans)));
    assert!(span.parent.is_empty() && span.trace != tied_to, "a trace of its own: {span:?}");
    assert!(span.links.len() <= 32, "{span:?}");
    span
}

async fn upkeep(shape: Shape) -> Result<()> {
    let receiver = OtlpReceiver::start().await?;
    let registry = HostileRegistry::start(Faults::none()).await;
    let image = image();
    registry.add_image("app", "v1", &image);
    registry.add_image("app", "v2", &image);
    let (one, two) = (registry.reference("app", "v1"), registry.reference("app", "v2"));
    let stage = stage(shape, &receiver).await?;
    traced(&stage, PULLS, &["pull", "--plain-http", "--quiet", &one])?;
    traced(&stage, PULLS, &["pull", "--plain-http", "--quiet", &two])?;

    // A collection: nobody asked for it, but somebody made it due.
    traced(&stage, REMOVES, &["images", "rm", &two])?;
    let collection = root(&receiver, "gc collect", REMOVES);
    receiver.trace(&collection.trace, |spans| {
        spans.iter().any(|span| span.name == "metadata.v1.Mark" && span.parent == collection.id)
    });

    // A repair: whoever checks is one thing, the pull that brought the blob another.
    let digest = image.layers[0].digest;
    let blob = stage.root().join("content/blobs/sha256").join(digest.hex());
    fs::remove_file(&blob).with_context(|| blob.display().to_string())?;
    traced(&stage, CHECKS, &["content", "fsck", "--deep", "--repair"])?;
    let check = root(&receiver, "gc check", CHECKS);
    let again = receiver.trace(&check.trace, |spans| spans.iter().any(|span| span.name == "download"));
    let repair = again.iter().find(|span| span.name == "repair").with_context(|| tree(&again))?;
    assert_eq!((&repair.parent, repair.links.as_slice()), (&check.id, &[PULLS.to_owned()][..]), "{}", tree(&again));
    assert!(again.iter().any(|span| span.name == "send fetch" && span.parent == repair.id), "{}", tree(&again));

    if shape == Shape::Nats {
        for tied_to in [PULLS, REMOVES] {
            let relay = root(&receiver, "relay", tied_to);
            assert_eq!(relay.service, "berth-metadata");
        }
    }
    // And none of it is in the trace of the pull.
    let pull = receiver.trace(PULLS, |spans| spans.iter().any(|span| span.name == "pull"));
    assert!(
        !pull.iter().any(|span| ["gc collect", "gc check", "relay"].contains(&span.name.as_str())),
        "{}",
        tree(&pull)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_daemon() -> Result<()> {
    upkeep(Shape::Daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nats() -> Result<()> {
    upkeep(Shape::Nats).await
}
