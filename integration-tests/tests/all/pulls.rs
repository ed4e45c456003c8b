//! Pulls as durable jobs: detached, watched by several, cancelled, limited in time; and through the death of any service.

use std::time::Duration;

use anyhow::Result;
use berth_integration_tests::{
    facts::{blobs, lines},
    image::digests,
};
use berth_testing::{
    berth::Berth,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer},
    running::Running,
    shape::{Shape, Stage},
    wait::{Seen, wait_for, wait_until},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::store::ingested_bytes;

macro_rules! with_a_daemon {
    ($($scenario:ident),* $(,)?) => {
        crate::in_shapes! { daemon Daemon: $($scenario)* }
        crate::in_shapes! { nats Nats: $($scenario)* }
    };
}

mod many;
mod restarts;

with_a_daemon! {
    a_detached_pull_goes_on_by_itself,
    several_watch_one_pull_and_the_last_to_leave_cancels,
    who_leaves_a_detached_pull_does_not_cancel_it,
    a_pull_is_cancelled_by_anybody,
    what_was_prepared_goes_with_a_cancelled_pull,
    a_pull_has_its_time,
    equal_pulls_are_one_also_detached,
    events_tell_of_pulls,
}

const LIMIT: Duration = Duration::from_secs(60);
const LAYER: usize = 8 << 20;

fn image(seed: u64) -> Image {
    ImageBuilder::new()
        .layer_as(Compression::None, Layer::new().random_file("big", LAYER, seed))
        .layer(Layer::new().file("small", b"x"))
        .build()
}

/// A registry that sends about 6 MB a second of each blob.
async fn slow_registry(images: &[Image]) -> (HostileRegistry, Vec<String>) {
    registry_with(Fault::Trickle(64 << 10, Duration::from_millis(10)), images).await
}

/// A registry that keeps back half of each large layer until it is told to behave.
async fn holding_registry(images: &[Image]) -> (HostileRegistry, Vec<String>) {
    registry_with(Fault::HeldAfter(LAYER / 2), images).await
}

async fn registry_with(fault: Fault, images: &[Image]) -> (HostileRegistry, Vec<String>) {
    let registry = HostileRegistry::start(Faults::none().always("/blobs/", fault)).await;
    let references = images.iter().enumerate().map(|(n, image)| {
        registry.add_image(&format!("app{n}"), "v1", image);
        registry.reference(&format!("app{n}"), "v1")
    });
    let references = references.collect();
    (registry, references)
}

/// All pulls, as `berth pulls ls` tells them.
fn pulls(berth: &Berth) -> Result<Vec<Value>> {
    let text = berth.ok(["pulls", "ls", "--all", "--json"])?;
    Ok(lines(&text).iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?)
}

/// The one pull there is.
fn only(berth: &Berth) -> Result<Value> {
    let mut all = pulls(berth)?;
    assert_eq!(all.len(), 1, "{all:#?}");
    Ok(all.remove(0))
}

fn wait_for_state(berth: &Berth, id: &str, wanted: &str) -> Value {
    wait_for(&format!("pull {id} to be {wanted}"), LIMIT, || {
        let all = pulls(berth).unwrap_or_default();
        match all.iter().find(|pull| pull["id"] == id && pull["state"] == wanted) {
            Some(pull) => Seen::Yes(pull.clone()),
            None => Seen::NotYet(all),
        }
    })
}

/// Waits until a good part of the first layer is there.
fn wait_until_under_way(stage: &Stage) {
    wait_until(
        "a layer to arrive in part",
        LIMIT,
        || ingested_bytes(stage.root()) > 1 << 20,
        || (ingested_bytes(stage.root()), pulls(stage)),
    );
}

fn ends_well(pull: Running) -> Result<()> {
    let ended = pull.finish()?;
    assert_eq!(ended.code, 0, "{ended:?}");
    Ok(())
}

async fn a_detached_pull_goes_on_by_itself(stage: Stage) -> Result<()> {
    let image = image(1);
    let (registry, references) = holding_registry(std::slice::from_ref(&image)).await;
    let text = stage.ok(["pull", "--plain-http", "--detach", "--priority", "high", &references[0]])?;
    let id = text.trim();
    let listed = only(&stage)?;
    assert_eq!((&listed["id"], &listed["reference"]), (&Value::from(id), &Value::from(references[0].as_str())));
    assert_eq!((&listed["priority"], &listed["detached"]), (&Value::from("high"), &Value::from(true)));
    let listed = wait_for("some of it to be told", LIMIT, || match only(&stage) {
        Ok(listed) if listed["percent"].as_u64() > Some(0) => Seen::Yes(listed),
        listed => Seen::NotYet(listed),
    });
    assert!(listed["state"] == "pulling" && listed["percent"].as_u64() < Some(100), "{listed:#}");
    assert!(stage.ok(["pulls", "ls"])?.contains("pulling"));
    registry.behave();
    let done = wait_for_state(&stage, id, "done");
    assert_eq!(done["target"]["digest"], Value::from(image.target.digest.to_string()));
    assert_eq!(blobs(&stage)?, digests(&image));
    assert_eq!(stage.ok(["pulls", "ls", "--quiet"])?.trim(), "", "nothing runs any more");
    // Who comes late is told the end, by a part of the id.
    let late = stage.run(["pulls", "attach", "--quiet", &id[..8]])?;
    assert_eq!((late.code, late.stdout.trim()), (0, image.target.digest.to_string().as_str()), "{late:?}");
    let missing = stage.fails(["pulls", "attach", "no-such"])?;
    assert!(missing.contains("no-such") && missing.contains("pulls ls"), "{missing}");
    assert_eq!(registry.seen_at(&image.layers[0].digest.to_string()).len(), 1);
    Ok(())
}

async fn several_watch_one_pull_and_the_last_to_leave_cancels(stage: Stage) -> Result<()> {
    let images = [image(2), image(3)];
    let (registry, references) = holding_registry(&images).await;
    let first = stage.spawn(["pull", "--plain-http", &references[0]])?;
    wait_until_under_way(&stage);
    let id = only(&stage)?["id"].as_str().unwrap().to_owned();
    let attached = stage.spawn(["pulls", "attach", "--json", &id])?;
    let again = stage.spawn(["pull", "--plain-http", "--json", &references[0]])?;
    // Late ones have the whole state at once.
    for late in [&attached, &again] {
        let state: Value = serde_json::from_str(&late.wait_for_line(&id))?;
        assert_eq!(state["items"].as_array().map(Vec::len), Some(4), "{state:#}");
    }
    first.signal(Signal::SIGINT)?;
    assert_eq!(first.finish()?.code, 130);
    registry.behave();
    ends_well(attached)?;
    ends_well(again)?;
    assert_eq!(registry.seen_at(&images[0].layers[0].digest.to_string()).len(), 1, "one pull");

    registry.misbehave(Faults::none().always("/blobs/", Fault::HeldAfter(LAYER / 2)));
    let last = stage.spawn(["pull", "--plain-http", "--json", &references[1]])?;
    let state: Value = serde_json::from_str(&last.wait_for_line("pulling"))?;
    let id = state["id"].as_str().unwrap();
    last.signal(Signal::SIGINT)?;
    assert_eq!(last.finish()?.code, 130);
    let cancelled = wait_for_state(&stage, id, "cancelled");
    assert_eq!(cancelled["error"]["code"], "cancelled");
    Ok(())
}

async fn who_leaves_a_detached_pull_does_not_cancel_it(stage: Stage) -> Result<()> {
    let image = image(4);
    let (registry, references) = holding_registry(std::slice::from_ref(&image)).await;
    let text = stage.ok(["pull", "--plain-http", "--detach", &references[0]])?;
    let attached = stage.spawn(["pulls", "attach", "--json", &references[0]])?;
    assert!(attached.wait_for_line("\"layer\"").contains(text.trim()));
    attached.signal(Signal::SIGINT)?;
    assert_eq!(attached.finish()?.code, 130);
    registry.behave();
    wait_for_state(&stage, text.trim(), "done");
    Ok(())
}

async fn a_pull_is_cancelled_by_anybody(stage: Stage) -> Result<()> {
    let image = image(5);
    let (registry, references) = holding_registry(std::slice::from_ref(&image)).await;
    let waiting = stage.spawn(["pull", "--plain-http", &references[0]])?;
    wait_until_under_way(&stage);
    let said = stage.ok(["pulls", "cancel", &references[0]])?;
    let ended = waiting.finish()?;
    assert!(ended.code == 130 && ended.stderr.contains("cancelled"), "{ended:?}");
    let listed = only(&stage)?;
    assert_eq!((&listed["id"], &listed["state"]), (&Value::from(said.trim()), &Value::from("cancelled")));
    let over = stage.fails(["pulls", "cancel", said.trim()])?;
    assert!(over.contains("over already"), "{over}");
    // What was fetched is there for the next try.
    registry.behave();
    let before = registry.sent();
    stage.ok(["pull", "--plain-http", &references[0]])?;
    assert!(registry.sent() - before < LAYER as u64, "the rest only: {}", registry.sent() - before);
    Ok(())
}

/// The snapshots of layers are prepared before a byte of them is there.
async fn what_was_prepared_goes_with_a_cancelled_pull(stage: Stage) -> Result<()> {
    let image = ImageBuilder::new().layer(Layer::new().file("file", b"x")).build();
    let path = format!("/blobs/{}", image.layers[0].digest);
    let registry = HostileRegistry::start(Faults::none().always(&path, Fault::HeldAfter(0))).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let waiting = stage.spawn(["pull", "--plain-http", &reference])?;
    let snapshots = || stage.ok(["snapshots", "ls", "-q"]);
    let prepared = || snapshots().is_ok_and(|names| names.starts_with("extract-"));
    wait_until("the layer's snapshot to be prepared", LIMIT, prepared, snapshots);
    let refused = stage.fails(["snapshots", "mounts", "/mnt", snapshots()?.trim()])?;
    assert!(refused.contains("being unpacked"), "{refused}");
    stage.ok(["pulls", "cancel", &reference])?;
    waiting.finish()?;
    assert_eq!(snapshots()?, "");
    registry.behave();
    stage.ok(["pull", "--plain-http", &reference])?;
    assert!(snapshots()?.starts_with("sha256:"));
    Ok(())
}

async fn a_pull_has_its_time(stage: Stage) -> Result<()> {
    let image = image(6);
    let slowly = Fault::Trickle(16 << 10, Duration::from_millis(20));
    let registry = HostileRegistry::start(Faults::none().always("/blobs/", slowly)).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let ended = stage.run(["pull", "--plain-http", "--timeout", "1500ms", &reference])?;
    assert!(ended.code == 1 && ended.stderr.contains("1.5 s") && ended.stderr.contains("fetching"), "{ended:?}");
    let listed = only(&stage)?;
    assert_eq!((&listed["state"], &listed["error"]["code"]), (&"failed".into(), &"deadline_exceeded".into()));
    registry.behave();
    stage.ok(["pull", "--plain-http", "--timeout", "10m", &reference])?;
    Ok(())
}

async fn equal_pulls_are_one_also_detached(stage: Stage) -> Result<()> {
    let image = image(7);
    let (registry, references) = holding_registry(std::slice::from_ref(&image)).await;
    let waiting = stage.spawn(["pull", "--plain-http", "--priority", "low", &references[0]])?;
    wait_until_under_way(&stage);
    // The same, detached and urgent: it is that pull, which becomes both.
    let text = stage.ok(["pull", "--plain-http", "--detach", "--priority", "high", &references[0]])?;
    waiting.signal(Signal::SIGINT)?;
    assert_eq!(waiting.finish()?.code, 130);
    let listed = only(&stage)?;
    assert_eq!(listed["id"], Value::from(text.trim()));
    assert_eq!((&listed["detached"], &listed["priority"]), (&Value::from(true), &Value::from("high")));
    registry.behave();
    wait_for_state(&stage, text.trim(), "done");
    Ok(())
}

async fn events_tell_of_pulls(stage: Stage) -> Result<()> {
    let image = image(8);
    let (registry, references) = slow_registry(std::slice::from_ref(&image)).await;
    registry.behave();
    stage.ok(["pull", "--plain-http", &references[0]])?;
    stage.fails(["pull", "--plain-http", &registry.reference("app0", "missing")])?;
    let events = berth_integration_tests::facts::events(&stage)?;
    let told: Vec<&Value> = events
        .iter()
        .filter(|event| event["topic"].as_str().is_some_and(|topic| topic.starts_with("/pulls/")))
        .collect();
    let topics: Vec<&str> = told.iter().filter_map(|event| event["topic"].as_str()).collect();
    assert_eq!(topics, ["/pulls/start", "/pulls/done", "/pulls/start", "/pulls/fail"], "{told:#?}");
    assert_eq!(told[0]["event"]["reference"], Value::from(references[0].as_str()));
    assert_eq!(told[0]["event"]["id"], told[1]["event"]["id"]);
    assert_eq!(told[1]["event"]["digest"], Value::from(image.target.digest.to_string()));
    assert_eq!(told[3]["event"]["code"], "not found");
    Ok(())
}

/// Of two pulls with the same to do, the urgent one is done first, though it came last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_pull_passes() -> Result<()> {
    let mut berth = Berth::new()?;
    berth.configure("[pulls]\nsmall_downloads = 2\n")?;
    let stage = Stage::start_on(Shape::Nats, berth)?;
    let images = [100, 200].map(|seed| {
        (0..12_u64)
            .fold(ImageBuilder::new(), |image, n| {
                image.layer_as(Compression::None, Layer::new().random_file("a", 256 << 10, seed + n))
            })
            .build()
    });
    let (_registry, references) = slow_registry(&images).await;
    let low = stage.ok(["pull", "--plain-http", "--detach", "--priority", "low", &references[0]])?;
    let high = stage.ok(["pull", "--plain-http", "--detach", "--priority", "high", &references[1]])?;
    let ended = |id: &str| wait_for_state(&stage, id.trim(), "done")["endedAt"].as_str().unwrap().to_owned();
    let (low, high) = (ended(&low), ended(&high));
    assert!(high < low, "high: {high}, low: {low}");
    Ok(())
}

/// Without a daemon nothing goes on behind one's back: what was cut off waits until it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_does_not_go_on_with_anothers_pull() -> Result<()> {
    let stage = Stage::start(Shape::Alone)?;
    let images = [image(9), image(10)];
    let (registry, references) = slow_registry(&images).await;
    let refused = stage.fails(["pull", "--plain-http", "--detach", &references[0]])?;
    assert!(refused.contains("berth serve"), "{refused}");
    let killed = stage.spawn(["pull", "--plain-http", &references[0]])?;
    wait_until(
        "the layer to arrive in part",
        LIMIT,
        || ingested_bytes(stage.root()) > 1 << 20,
        || (ingested_bytes(stage.root()), killed.output()),
    );
    killed.signal(Signal::SIGKILL)?;
    killed.finish()?;
    registry.behave();
    let path = format!("/blobs/{}", images[0].layers[0].digest);
    stage.ok(["pull", "--plain-http", &references[1]])?;
    assert_eq!(registry.seen_at(&path).len(), 1, "another pull does not go on with it");
    let all = pulls(&stage)?;
    let cut_off = all.iter().find(|pull| pull["reference"] == references[0].as_str()).unwrap();
    assert_eq!(cut_off["state"], "interrupted", "{all:#?}");
    // The same pull, asked for again, is that pull.
    stage.ok(["pull", "--plain-http", &references[0]])?;
    let all = pulls(&stage)?;
    let done = all.iter().find(|pull| pull["id"] == cut_off["id"]).unwrap();
    assert_eq!((all.len(), &done["state"], &done["starts"]), (2, &Value::from("done"), &Value::from(2)), "{all:#?}");
    Ok(())
}
