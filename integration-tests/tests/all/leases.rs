//! Leases by hand.

use std::{fs, time::Duration};

use anyhow::Result;
use berth_integration_tests::{
    facts::{blobs, lines, snapshots},
    image::push,
};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
    shape::Stage,
    wait::wait_until,
};
use serde_json::{Value, json};

use crate::gc::{blob_files, directories};

in_every_shape! {
    a_lease_is_made_listed_and_ended,
    what_a_lease_names_stays,
    a_flat_lease_keeps_no_more_than_it_names,
    a_lease_ends_by_itself,
}

fn image() -> Image {
    ImageBuilder::new().layer(Layer::new().file("a", b"1")).layer(Layer::new().file("b", b"2")).build()
}

async fn a_lease_is_made_listed_and_ended(stage: Stage) -> Result<()> {
    let random = stage.ok(["leases", "create"])?;
    let named = stage.ok(["leases", "create", "--id", "mine", "--expires", "90m", "--label", "a=b"])?;
    assert_eq!(named.trim(), "mine");
    assert!(stage.fails(["leases", "create", "--id", "mine"])?.contains("mine"));
    let listed: Vec<Value> =
        lines(&stage.ok(["leases", "ls", "--json"])?).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mine = listed.iter().find(|lease| lease["id"] == "mine").unwrap();
    assert_eq!(mine["labels"]["a"], "b");
    let lasts = |lease: &Value| {
        let time = |key: &str| lease[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        time("expiresAt").duration_since(time("createdAt")).as_secs()
    };
    let other = listed.iter().find(|lease| lease["id"] == random.trim()).unwrap();
    assert_eq!((lasts(mine), lasts(other)), (90 * 60, 24 * 60 * 60));
    stage.ok(["leases", "resources", "mine", "--add", "images/docker.io/library/x:1", "--add", "ingests/y"])?;
    let verbose = stage.ok(["lease", "ls", "-v"])?;
    assert!(verbose.contains("  images/docker.io/library/x:1") && verbose.contains("  ingests/y"), "{verbose}");
    stage.ok(["leases", "resources", "mine", "--remove", "ingests/y"])?;
    let left = stage.json(["leases", "resources", "mine", "--json"])?;
    assert_eq!(left, json!({ "type": "images", "id": "docker.io/library/x:1" }));
    assert!(stage.fails(["leases", "resources", "mine", "--add", "nothing"])?.contains("nothing"));
    stage.ok(["leases", "rm", "mine", random.trim()])?;
    assert_eq!(stage.ok(["leases", "ls", "-q"])?, "");
    assert!(stage.fails(["leases", "rm", "mine"])?.contains("mine"));
    Ok(())
}

async fn what_a_lease_names_stays(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image();
    let name = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    stage.ok(["leases", "create", "--id", "mine"])?;
    stage.ok(["leases", "resources", "mine", "--add", &format!("content/{}", image.target.digest)])?;
    stage.ok(["images", "rm", "--sync", &name])?;
    assert_eq!((blobs(&stage)?.len(), snapshots(&stage)?.len()), (4, 2), "with all it refers to");
    let why = stage.ok(["gc", "why", &image.layers[0].digest.to_string()])?;
    assert!(why.contains("lease mine until"), "{why}");
    stage.ok(["leases", "rm", "--sync", "mine"])?;
    assert!(blob_files(stage.root()).is_empty() && directories(stage.root()).is_empty());
    Ok(())
}

async fn a_flat_lease_keeps_no_more_than_it_names(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image();
    let name = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    let [lower, upper] = [0, 1].map(|index| image.layers[index].digest.to_string());
    stage.ok(["leases", "create", "--id", "flat", "--label", "containerd.io/gc.flat=yes"])?;
    stage.ok(["leases", "resources", "flat", "--add", &format!("content/{}", image.target.digest)])?;
    stage.ok(["leases", "resources", "flat", "--add", &format!("content/{upper}")])?;
    stage.ok(["images", "rm", "--sync", &name])?;
    let kept = [image.target.digest.to_string(), upper.clone()];
    assert_eq!(blob_files(stage.root()), kept.into_iter().collect(), "neither the config nor {lower}");
    assert!(directories(stage.root()).is_empty());
    Ok(())
}

async fn a_lease_ends_by_itself(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let name = push(&image(), &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    stage.ok(["leases", "create", "--id", "short", "--expires", "2s"])?;
    stage.ok(["leases", "resources", "short", "--add", &format!("images/{name}")])?;
    wait_until(
        "the lease to end",
        Duration::from_secs(30),
        || {
            stage.ok(["gc"]).unwrap();
            stage.ok(["leases", "ls", "-q"]).unwrap().is_empty()
        },
        || stage.ok(["leases", "ls"]),
    );
    assert!(!blob_files(stage.root()).is_empty(), "the image is a root of its own");
    assert!(fs::metadata(stage.root()).is_ok());
    Ok(())
}
