//! Events as subscribers on NATS get them: by the contract, filtered by subject alone, and none missed by one that was away.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use berth_bus::{Bus, BusEvent, EventStream, NatsOptions};
use berth_integration_tests::{facts::events, image::push};
use berth_testing::{
    berth::binary,
    docker_registry::DockerRegistry,
    event_contract::EventContract,
    image::{ImageBuilder, Layer},
    shape::{Shape, Stage},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// The next event.
async fn next(events: &mut EventStream) -> Result<BusEvent> {
    Ok(tokio::time::timeout(PATIENCE, events.next()).await?.context("the bus is gone")??)
}

fn sequence(event: &BusEvent) -> Result<u64> {
    let body: Value = serde_json::from_slice(&event.body)?;
    body["sequence"].as_u64().context("no sequence")
}

async fn pulled(stage: &Stage, registry: &DockerRegistry, tag: &str) -> Result<String> {
    let layers = ["a", "b"].map(|name| Layer::new().file(name, tag.as_bytes()));
    let image = layers.into_iter().fold(ImageBuilder::new(), ImageBuilder::layer).build();
    let reference = push(&image, registry, "app", tag).await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    Ok(reference)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_pull_is_told_as_the_contract_says() -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let bus = Bus::connect(NatsOptions::new(stage.nats().url(), "test")).await?;
    let (mut all, mut images) = (bus.subscribe(">").await?, bus.subscribe("default.images.>").await?);
    let mut of_nobody = bus.subscribe("nobody.>").await?;
    let registry = DockerRegistry::start()?;
    let reference = pulled(&stage, &registry, "v1").await?;
    stage.ok(["images", "rm", "--sync", &reference])?;

    let told = events(&stage)?;
    let (contract, mut channels, mut ids) = (EventContract::read()?, BTreeSet::new(), BTreeSet::new());
    for known in &told {
        let event = next(&mut all).await?;
        channels.insert(contract.check(&event.subject, &event.headers, &event.body)?);
        ensure!(Some(sequence(&event)?) == known["sequence"].as_u64(), "a gap before {event:?}");
        ensure!(ids.insert(event.id.clone()), "{} came twice", event.id);
    }
    for channel in
        ["imagesCreate", "imagesDelete", "contentCreate", "contentDelete", "snapshotPrepare", "snapshotCommit"]
    {
        ensure!(channels.contains(channel), "no {channel} among {channels:?}");
    }
    // NATS filters, by subject alone.
    for wanted in ["default.images.create", "default.images.delete"] {
        assert_eq!(next(&mut images).await?.subject, wanted);
    }
    ensure!(tokio::time::timeout(Duration::from_millis(50), of_nobody.next()).await.is_err(), "somebody else's");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_and_then_what_happens() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let registry = DockerRegistry::start()?;
    let first = pulled(&stage, &registry, "v1").await?;
    let follower = stage.spawn(["events", "--with-state"])?;
    let listed: Value = serde_json::from_str(&follower.wait_for_line("listed"))?;
    let second = pulled(&stage, &registry, "v2").await?;
    let created = follower.wait_for_line("/images/create");
    ensure!(created.contains(&second), "{created}");

    let output = follower.output();
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["state"] == kind).count();
    assert_eq!((of("image"), of("content"), of("snapshot")), (1, 4, 2), "{output}");
    ensure!(lines.iter().any(|line| line["record"]["name"] == first.as_str()), "{output}");
    let sequences: Vec<u64> = lines.iter().filter_map(|line| line["sequence"].as_u64()).collect();
    let begin = listed["listed"].as_u64().context("a number")? + 1;
    let expected: Vec<u64> = (begin..).take(sequences.len()).collect();
    assert_eq!(sequences, expected, "{output}");
    Ok(())
}

/// Runs a durable subscriber until it has seen `wanted` events; answers their ids.
fn run(program: &mut Command, stage: &mut Stage, wanted: usize) -> Result<Vec<String>> {
    let nats = stage.nats();
    let (url, ca, nkey) = (nats.url(), nats.ca(), nats.nkey("subscriber"));
    let done = program.args([&url, "away", &wanted.to_string()]).args([ca, nkey]).output()?;
    ensure!(done.status.success(), "{program:?}: {}", String::from_utf8_lossy(&done.stderr));
    let lines = String::from_utf8(done.stdout)?;
    let ids = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line)?;
        ensure!(line["type"].as_str().is_some_and(|kind| kind.starts_with("io.berth.images.")), "{line}");
        Ok(line["id"].as_str().context("an id")?.to_owned())
    });
    ids.collect()
}

/// Somebody who was away, also while the server was restarted, sees all that happened meanwhile, once.
async fn misses_nothing(mut program: impl FnMut() -> Command) -> Result<()> {
    let mut stage = Stage::secured()?;
    let registry = DockerRegistry::start()?;
    let mut seen = Vec::new();
    let reference = pulled(&stage, &registry, "v1").await?;
    seen.extend(run(&mut program(), &mut stage, 1)?);
    for round in 0..3 {
        // Away: an image comes and goes, again and again, and the server is restarted.
        for _ in 0..5 {
            stage.ok(["images", "rm", &reference])?;
            stage.ok(["pull", "--plain-http", &reference])?;
        }
        if round == 1 {
            stage.nats().restart()?;
        }
        seen.extend(run(&mut program(), &mut stage, 10)?);
    }
    let told = events(&stage)?;
    let outbox = seen.first().and_then(|id| id.rsplit_once('-')).context("an id")?.0.to_owned();
    let images = told.iter().filter(|event| event["topic"].as_str().is_some_and(|topic| topic.starts_with("/images/")));
    let wanted: Vec<String> = images.map(|event| format!("{outbox}-{}", event["sequence"])).collect();
    assert_eq!(seen, wanted, "each once, in order");
    assert_eq!(seen.len(), 31);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_example_misses_nothing_while_away() -> Result<()> {
    let example = binary().parent().context("a directory")?.join("examples/subscriber");
    ensure!(example.exists(), "{} is not there; cargo build --examples -p berth-integration-tests", example.display());
    misses_nothing(|| Command::new(&example)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_example_misses_nothing_while_away() -> Result<()> {
    let python = python()?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/subscriber.py");
    misses_nothing(|| {
        let mut command = Command::new(&python);
        command.arg(&example);
        command
    })
    .await
}

/// A Python that has nats-py: Debian has no package of it, so it gets a place of its own.
fn python() -> Result<PathBuf> {
    let place = binary().parent().context("a directory")?.join("python");
    let python = place.join("bin/python3");
    let has = |python: &Path| {
        Command::new(python).args(["-c", "import nats, nkeys"]).output().is_ok_and(|done| done.status.success())
    };
    if !has(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&place).output()?;
        ensure!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stderr));
        let installed = Command::new(place.join("bin/pip")).args(["install", "nats-py[nkeys]==2.16.0"]).output()?;
        ensure!(installed.status.success(), "pip install: {}", String::from_utf8_lossy(&installed.stderr));
    }
    ensure!(has(&python), "{} has no nats-py after it was installed", python.display());
    Ok(python)
}

/// The one-liner: whoever reaches the bus needs no socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn berth_events_over_nats() -> Result<()> {
    let mut stage = Stage::secured()?;
    let registry = DockerRegistry::start()?;
    let reference = pulled(&stage, &registry, "v1").await?;
    let (url, ca, nkey) = (stage.nats().url(), stage.nats().ca(), stage.nats().nkey("gateway"));
    let shown = Command::new(binary())
        .args(["events", "--since", "0", "--until-now", "--nats", &url])
        .arg("--nats-ca")
        .arg(ca)
        .arg("--nats-nkey-file")
        .arg(nkey)
        .output()?;
    ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8(shown.stdout)?;
    ensure!(shown.lines().any(|line| line.contains("/images/create") && line.contains(&reference)), "{shown}");
    Ok(())
}
