//! Pulls that are cut off: what was fetched is not fetched again.

use std::{os::unix::process::ExitStatusExt as _, time::Duration};

use anyhow::Result;
use berth_integration_tests::{
    facts::{Mounted, blobs},
    image::digests,
};
use berth_testing::{
    berth::Berth,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer},
    running::Running,
    shape::{Shape, Stage},
    wait::wait_until,
};
use nix::sys::signal::Signal;

use crate::store::ingested_bytes;

in_every_shape! {
    a_pull_that_was_interrupted_is_resumed,
    a_pull_that_was_killed_is_resumed,
    a_connection_that_breaks_is_no_failure,
}

const LAYER: usize = 12 << 20;
/// So much must have arrived before the cut.
const ENOUGH: u64 = 2 << 20;

fn big_image() -> Image {
    ImageBuilder::new()
        .layer_as(Compression::None, Layer::new().random_file("big", LAYER, 1))
        .layer(Layer::new().file("small", b"x"))
        .build()
}

/// A registry that sends the big layer slowly, about 6 MB a second, and so gives time to cut it off.
async fn slow_registry(image: &Image) -> (HostileRegistry, String, String) {
    let path = format!("/blobs/{}", image.layers[0].digest);
    let slowly = Fault::Trickle(64 << 10, Duration::from_millis(10));
    let registry = HostileRegistry::start(Faults::none().always(&path, slowly)).await;
    registry.add_image("app", "v1", image);
    let reference = registry.reference("app", "v1");
    (registry, reference, path)
}

fn wait_until_under_way(stage: &Stage, pull: &mut Running) {
    wait_until(
        "the big layer to arrive in part",
        Duration::from_secs(60),
        || ingested_bytes(stage.root()) > ENOUGH,
        || (ingested_bytes(stage.root()), pull.has_ended(), pull.output()),
    );
    assert!(!pull.has_ended(), "the pull is under way");
}

/// Pulls again, and checks that the first bytes were not asked for again.
fn check_resumed(stage: &Stage, registry: &HostileRegistry, reference: &str, path: &str, image: &Image) -> Result<()> {
    registry.behave();
    let before = registry.seen_at(path).len();
    stage.ok(["pull", "--plain-http", reference])?;
    let later = registry.seen_at(path).split_off(before);
    let ranges: Vec<_> = later.iter().map(|request| request.range.clone().unwrap_or_default()).collect();
    let begins =
        |range: &String| range.strip_prefix("bytes=").and_then(|range| range.split('-').next()?.parse::<u64>().ok());
    let lowest = ranges.iter().map(|range| begins(range).unwrap_or(0)).min();
    // A small part may be asked for again: what was not flushed yet.
    assert!(lowest >= Some(ENOUGH / 2), "ranges asked for: {ranges:?}");
    assert_eq!(blobs(stage)?, digests(image));
    let mounted = Mounted::new(stage, reference, &[])?;
    assert_eq!(std::fs::metadata(mounted.path().join("big"))?.len(), LAYER as u64);
    Ok(())
}

async fn a_pull_that_was_interrupted_is_resumed(stage: Stage) -> Result<()> {
    let image = big_image();
    let (registry, reference, path) = slow_registry(&image).await;
    let mut pull = stage.spawn(["pull", "--plain-http", &reference])?;
    wait_until_under_way(&stage, &mut pull);
    pull.signal(Signal::SIGINT)?;
    let ended = pull.finish()?;
    assert_ne!(ended.code, 0, "{ended:?}");
    assert_ne!(ended.code, 101, "no panic: {ended:?}");
    check_resumed(&stage, &registry, &reference, &path, &image)
}

/// `kill -9` of whatever holds the store: the command itself, the daemon, or all services.
async fn a_pull_that_was_killed_is_resumed(mut stage: Stage) -> Result<()> {
    let image = big_image();
    let (registry, reference, path) = slow_registry(&image).await;
    let mut pull = stage.spawn(["pull", "--plain-http", &reference])?;
    wait_until_under_way(&stage, &mut pull);
    match stage.shape() {
        Shape::Alone => pull.signal(Signal::SIGKILL)?,
        Shape::Daemon => {
            stage.kill("daemon");
            pull.signal(Signal::SIGKILL)?;
            stage.serve("daemon", &[])?;
            stage.wait_until_ready();
        }
        Shape::Nats => {
            pull.signal(Signal::SIGKILL)?;
            for service in Stage::services() {
                stage.kill(service);
            }
            for service in Stage::services() {
                stage.start_service(service)?;
            }
            stage.wait_until_ready();
        }
    }
    pull.finish()?;
    check_resumed(&stage, &registry, &reference, &path, &image)
}

async fn a_connection_that_breaks_is_no_failure(stage: Stage) -> Result<()> {
    let image = big_image();
    let path = format!("/blobs/{}", image.layers[0].digest);
    let faults = Faults::none().times(2, &path, Fault::ResetAfter(1 << 20)).once(&path, Fault::CloseAfter(100_000));
    let registry = HostileRegistry::start(faults).await;
    registry.add_image("app", "v1", &image);
    stage.ok(["pull", "--plain-http", &registry.reference("app", "v1")])?;
    assert_eq!(blobs(&stage)?, digests(&image));
    let asked: Vec<_> = registry.seen_at(&path).into_iter().map(|request| request.range).collect();
    assert!(asked.iter().any(|range| range.as_deref().is_some_and(|range| range != "bytes=0-")), "{asked:?}");
    Ok(())
}

/// What was gathered behind a write that failed has no place: it must not come to where that should be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_failed_write_stays_and_is_right() -> Result<()> {
    let image = big_image();
    let registry = HostileRegistry::start(Faults::none()).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let berth = Berth::new()?;
    let mut pull = berth.command(["pull", "--plain-http", &reference]);
    let failed = pull.env(berth_failpoint::VARIABLE, "blob.write=enospc@12").output()?;
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("No space left on device"), "{said}");
    let ingests = std::fs::read_dir(berth.root().join("content/ingest"))?.flatten();
    let kept = ingests.filter_map(|ingest| std::fs::read(ingest.path().join("data")).ok()).max_by_key(Vec::len);
    let kept = kept.unwrap_or_default();
    assert!(kept.len() > 100_000, "{} bytes were kept: {said}", kept.len());
    assert!(image.blobs[&image.layers[0].digest].starts_with(&kept), "what was kept is the beginning of the layer");
    berth.ok(["pull", "--plain-http", &reference])?;
    let range = registry.seen_at(&format!("/blobs/{}", image.layers[0].digest)).pop().and_then(|last| last.range);
    assert_eq!(range, Some(format!("bytes={}-", kept.len())));
    Ok(())
}

/// The kernel tells once that it could not write something, and the next flush says that all is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_refused_is_unpacked_anew() -> Result<()> {
    let image = big_image();
    let registry = HostileRegistry::start(Faults::none()).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let stage = Stage::start(Shape::Alone)?;
    let mut pull = stage.command(["pull", "--plain-http", &reference]);
    let failed = pull.env(berth_failpoint::VARIABLE, "snapshot.flush=eio").output()?;
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("Input/output error"), "{said}");
    // As if that had been lost.
    let found = std::process::Command::new("find").arg(stage.root()).args(["-name", "big"]).output()?;
    for path in String::from_utf8(found.stdout)?.lines() {
        std::fs::write(path, b"torn")?;
    }
    stage.ok(["pull", "--plain-http", &reference])?;
    let mounted = Mounted::new(&stage, &reference, &[])?;
    assert_eq!(std::fs::metadata(mounted.path().join("big"))?.len(), LAYER as u64);
    Ok(())
}

/// A command that is killed while it deletes keeps the next one from its blobs only where others might be deleting still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_being_deleted_when_the_deleter_died_is_fetched_at_once() -> Result<()> {
    let image = big_image();
    let registry = HostileRegistry::start(Faults::none()).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let berth = Berth::new()?;
    berth.ok(["pull", "--plain-http", &reference])?;
    let mut removal = berth.command(["images", "rm", &reference]);
    let killed = removal.env(berth_failpoint::VARIABLE, "content.deleted=kill").output()?;
    assert_eq!(killed.status.signal(), Some(Signal::SIGKILL as i32), "{killed:?}");
    let again = berth.command(["--log-level", "debug", "pull", "--plain-http", &reference]).output()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && said.contains("may be fetched again"), "{said}");
    // It lasts for half a minute otherwise, in which a pull tries twice a second.
    let refused = said.lines().filter(|line| line.contains("trying again") && line.contains("being deleted")).count();
    assert!(refused < 20, "{refused} times: {said}");
    assert_eq!(blobs(&berth)?, digests(&image));
    Ok(())
}
