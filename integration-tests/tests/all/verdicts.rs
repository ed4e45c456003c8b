//! A pull says why it took as long as it did: experiments in which the cause is known.

use std::time::Duration;

use anyhow::{Context as _, Result};
use berth_integration_tests::{
    image::{push, reference},
    power::{Pace, PowerDisk},
};
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer},
    link::{FAR, Link},
    shape::{Shape, Stage},
};
use serde_json::Value;

/// A layer that does not get smaller by packing.
fn image(bytes: usize) -> Image {
    ImageBuilder::new().layer_as(Compression::None, Layer::new().random_file("a", bytes, 1)).build()
}

async fn registry(faults: Faults, image: &Image) -> HostileRegistry {
    let registry = HostileRegistry::start(faults).await;
    registry.add_image("app", "v1", image);
    registry
}

fn explained(stage: &Stage, reference: &str) -> Result<Value> {
    let explained: Value = serde_json::from_str(&stage.ok(["pulls", "explain", "--json", reference])?)?;
    let shares = explained["path"].as_array().context("no path")?;
    let sum: u64 = shares.iter().filter_map(|share| share["us"].as_u64()).sum();
    assert_eq!(Some(sum), explained["totalUs"].as_u64(), "the shares add up: {explained}");
    Ok(explained)
}

fn pulled(stage: &Stage, registry: &HostileRegistry) -> Result<Value> {
    let reference = registry.reference("app", "v1");
    stage.ok(["pull", "--plain-http", &reference])?;
    explained(stage, &reference)
}

#[track_caller]
fn blames(explained: &Value, what: &[&str], words: &str) {
    let first = explained["path"][0]["what"].as_str().unwrap_or_default();
    assert!(what.contains(&first), "{what:?} is to blame: {explained}");
    assert!(explained["sentence"].as_str().is_some_and(|sentence| sentence.contains(words)), "{explained}");
}

/// The share of the whole time that went to any of these.
fn share(explained: &Value, what: &[&str]) -> f64 {
    let path = explained["path"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |share: &&Value| share["what"].as_str().is_some_and(|word| what.contains(&word));
    let us: f64 = path.iter().filter(of).filter_map(|share| share["us"].as_f64()).sum();
    us / explained["totalUs"].as_f64().unwrap_or(f64::INFINITY)
}

/// The rate in a sentence, in bytes a second.
fn rate(explained: &Value) -> Option<f64> {
    let (_, after) = explained["sentence"].as_str()?.split_once("which came with ")?;
    let mut words = after.split(' ');
    let (number, unit) = (words.next()?.parse::<f64>().ok()?, words.next()?);
    Some(number * if unit == "MB" { 1e6 } else { 1e3 })
}

/// A real registry behind a link that lets 16 Mbit a second through: two megabytes a second, less what the protocols take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shaped_link() -> Result<()> {
    let mut registry = DockerRegistry::start()?;
    push(&image(4 << 20), &registry, "app", "v1").await?;
    let link = Link::new(16_000_000)?;
    let mut berth = Berth::new()?;
    berth.run_within(&link.near_words().each_ref().map(String::as_str));
    registry.move_behind(link)?;
    let stage = Stage::start_on(Shape::Daemon, berth)?;
    let reference = reference(&registry, "app", "v1");
    stage.ok(["pull", "--plain-http", &reference])?;
    let explained = explained(&stage, &reference)?;
    blames(&explained, &["transfer"], "unpacking kept up");
    blames(&explained, &["transfer"], FAR);
    let rate = rate(&explained).with_context(|| format!("no rate: {explained}"))?;
    // Never more than the link lets through (but for the bucket); less only if this machine is very busy.
    assert!((1_000_000.0..2_200_000.0).contains(&rate), "{rate}: {explained}");
    Ok(())
}

/// The disk takes 4 MB a second, and flushes take a while: what came quickly waits to be safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk() -> Result<()> {
    let pace = Pace { mebibyte: Duration::from_millis(250), flush: Duration::from_millis(20) };
    let disk = PowerDisk::paced(256 << 20, pace)?;
    let stage = Stage::start_on(Shape::Daemon, Berth::at(&disk.path().join("root"))?)?;
    let registry = registry(Faults::none(), &image(4 << 20)).await;
    let explained = pulled(&stage, &registry)?;
    blames(&explained, &["commit"], "waiting for the disk");
    assert!(share(&explained, &["commit", "disk", "record"]) > 0.5, "{explained}");
    Ok(())
}

/// One processor for everything but the registry: inflating is what a well-packed layer waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_processor() -> Result<()> {
    let mut berth = Berth::new()?;
    let processors = rustix::thread::sched_getaffinity(None)?;
    let one = (0..rustix::thread::CpuSet::MAX_CPU).find(|number| processors.is_set(*number)).unwrap_or_default();
    berth.run_within(&["taskset", "--cpu-list", &one.to_string()]);
    let stage = Stage::start_on(Shape::Daemon, berth)?;
    // What packs well: a third of it has to come.
    let numbers = |from: u64| (from..from + 6_000_000).flat_map(|n| (n * n % 9_973).to_le_bytes()).collect::<Vec<u8>>();
    let layers = (0..3).map(|layer| Layer::new().file(&format!("f{layer}"), &numbers(layer)));
    let image = layers.fold(ImageBuilder::new(), ImageBuilder::layer).build();
    let registry = registry(Faults::none(), &image).await;
    let explained = pulled(&stage, &registry)?;
    let work = ["processor", "inflate", "untar", "hash", "unpack"];
    blames(&explained, &work, "processor");
    assert!(share(&explained, &work) > 0.5, "{explained}");
    assert!(share(&explained, &["processor"]) > 0.2, "{explained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    // A megabyte a second.
    let slowly = Fault::Trickle(20_000, Duration::from_millis(20));
    let registry = registry(Faults::none().always("/blobs/", slowly), &image(2 << 20)).await;
    let explained = pulled(&stage, &registry)?;
    blames(&explained, &["transfer"], "unpacking kept up");
    blames(&explained, &["transfer"], &registry.host());
    assert!(explained["bytes"]["registry"].as_u64().is_some_and(|bytes| bytes > 2 << 20), "{explained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_limits() -> Result<()> {
    let stage = Stage::start(Shape::Nats)?;
    let limited = Fault::TooManyRequests(Some("2".to_owned()));
    let image = image(1000);
    let layer = format!("/blobs/{}", image.layers[0].digest);
    let registry = registry(Faults::none().once(&layer, limited), &image).await;
    let explained = pulled(&stage, &registry)?;
    blames(&explained, &["rate limit"], "limits how often");
    assert_eq!(explained["retries"]["429"], 1, "{explained}");
    assert_eq!(explained["retriedHosts"][registry.host()], 1, "{explained}");
    // The pull's last event has the same figures.
    let events = stage.ok(["events", "--since", "0", "--until-now"])?;
    let done = events.lines().find(|line| line.contains("/pulls/done")).context("no last event")?;
    let facts = serde_json::from_str::<Value>(done)?["event"].take();
    let why = &facts["why"];
    assert_eq!((&why["retries"], &why["retried_hosts"]), (&explained["retries"], &explained["retriedHosts"]), "{done}");
    assert_eq!((&why["total_us"], &why["bytes"]["registry"]), (&explained["totalUs"], &explained["bytes"]["registry"]));
    assert_eq!(facts["verdict"], explained["sentence"]);
    let lost = why["waits_us"]["rate limit"].as_u64().unwrap_or_default();
    assert!(lost > 1_000_000 && why["path_us"]["rate limit"].as_u64() > Some(1_000_000), "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_workers() -> Result<()> {
    let mut stage = Stage::start(Shape::Alone)?;
    stage.serve("daemon", &["--concurrency", "1"])?;
    stage.wait_until_ready();
    let slowly = Fault::Trickle(20_000, Duration::from_millis(20));
    let busy = registry(Faults::none().always("/blobs/", slowly), &image(3 << 20)).await;
    let quick =
        registry(Faults::none(), &ImageBuilder::new().layer(Layer::new().random_file("b", 2 << 20, 7)).build()).await;
    let first = stage.spawn(["pull", "--plain-http", &busy.reference("app", "v1")])?;
    berth_testing::wait::wait_until(
        "the only worker to be busy",
        Duration::from_secs(30),
        || !busy.seen_at("/blobs/").is_empty(),
        || busy.seen(),
    );
    let explained = pulled(&stage, &quick)?;
    assert_eq!(first.finish()?.code, 0);
    blames(&explained, &["turn", "queue", "other large downloads"], "all workers were busy");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_files() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let files = (0..20_000).fold(Layer::new(), |layer, n| layer.file(&format!("d{}/f{n}", n / 100), b""));
    let registry = registry(Faults::none(), &ImageBuilder::new().layer(files).build()).await;
    let explained = pulled(&stage, &registry)?;
    // The last one on a machine that has other things to do, too.
    blames(&explained, &["untar", "inflate", "unpack", "commit", "processor"], " % of ");
    let of = |what: &str| {
        explained["path"]
            .as_array()
            .and_then(|path| path.iter().find(|share| share["what"] == what))
            .map(|share| share["us"].as_u64())
    };
    assert!(of("untar").is_some(), "making files is told: {explained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_to_do_and_a_picture() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let registry = registry(Faults::none(), &image(1000)).await;
    pulled(&stage, &registry)?;
    let again = pulled(&stage, &registry)?;
    assert!(again["sentence"].as_str().is_some_and(|sentence| sentence.contains("there already")), "{again}");
    let (file, reference) = (stage.scratch().join("pull.svg"), registry.reference("app", "v1"));
    let text = stage.ok(["pulls", "explain", &reference, "--svg", &file.display().to_string()])?;
    assert!(text.contains("critical path") && text.contains("there already"), "{text}");
    let svg = std::fs::read_to_string(&file)?;
    assert!(svg.starts_with("<svg") && svg.contains(&reference) && svg.matches("<rect x=").count() >= 4, "{svg}");
    let said = stage.fails(["pulls", "explain", "nobody/pulled:this"])?;
    assert!(said.contains("berth pulls ls"), "names the remedy: {said}");
    // The event says it too.
    let events = stage.ok(["events", "--since", "0", "--until-now"])?;
    let done = events.lines().filter(|line| line.contains("/pulls/done")).count();
    assert!(done == 2 && events.lines().filter(|line| line.contains("there already")).count() == 1, "{events}");
    Ok(())
}
