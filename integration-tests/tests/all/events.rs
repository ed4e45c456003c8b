//! Events: every change is told, in order, once, also to those who ask later.

use anyhow::Result;
use berth_integration_tests::{facts::events, image::push};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::Stage,
};
use serde_json::Value;

in_every_shape! {
    a_pull_and_a_removal_are_told_in_order,
    a_follower_sees_what_happens,
}

fn topics(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["topic"].as_str().unwrap()).collect()
}

async fn a_pull_and_a_removal_are_told_in_order(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).layer(Layer::new().file("b", b"y")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let layer = image.layers[0].digest.to_string();
    stage.ok(["content", "rm", &layer])?;
    stage.ok(["images", "rm", "--sync", &reference])?;

    let events = events(&stage)?;
    let told = topics(&events);
    let count = |topic: &str| told.iter().filter(|told| **told == topic).count();
    assert_eq!(count("/content/create"), 4, "{told:?}");
    assert_eq!(count("/snapshot/prepare"), 2, "{told:?}");
    assert_eq!(count("/snapshot/commit"), 2, "{told:?}");
    assert_eq!(count("/images/create"), 1, "{told:?}");
    assert_eq!(count("/content/delete"), 4, "{told:?}");
    assert_eq!(count("/snapshot/remove"), 2, "{told:?}");
    let place = |topic: &str| told.iter().position(|told| *told == topic).unwrap();
    let end = ["/content/delete", "/images/delete", "/snapshot/remove"].map(place);
    assert!(end.is_sorted(), "a blob by hand, the image, and what was its own: {told:?}");
    assert!(place("/images/create") > place("/snapshot/commit"), "the record is the last word: {told:?}");
    assert!(place("/images/create") > place("/content/create"), "{told:?}");

    let sequences: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
    let created = &events[place("/images/create")];
    assert_eq!(created["event"]["name"], Value::from(reference.as_str()), "{created:#}");
    assert_eq!(created["namespace"], Value::from("default"), "{created:#}");
    let deleted = &events[place("/content/delete")];
    assert_eq!(deleted["event"]["digest"], Value::from(layer), "{deleted:#}");

    // From the middle.
    let since = sequences[sequences.len() - 3].to_string();
    let rest = stage.ok(["events", "--since", &since, "--until-now"])?;
    assert_eq!(rest.lines().count(), 2, "{rest}");
    Ok(())
}

async fn a_follower_sees_what_happens(stage: Stage) -> Result<()> {
    if stage.shape() == berth_testing::shape::Shape::Alone {
        // Nobody else can change a store that a follower has open.
        return Ok(());
    }
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    let follower = stage.spawn(["events", "--since", "0"])?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let seen = follower.wait_for_line("/images/create");
    let event: Value = serde_json::from_str(&seen)?;
    assert_eq!(event["event"]["name"], Value::from(reference));
    Ok(())
}
