//! Snapshots: named by chain ids, counted, mounted by hand, removed from the top.

use std::{fs, process::Command};

use anyhow::Result;
use berth_integration_tests::{facts::snapshots, image::push};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
    shape::Stage,
};
use serde_json::json;

in_every_shape! {
    snapshots_are_named_by_chain_ids,
    snapshots_are_removed_from_the_top,
    images_share_their_lower_snapshots,
    a_snapshot_is_made_mounted_and_committed,
}

fn image(top: &str) -> Image {
    ImageBuilder::new()
        .layer(Layer::new().dir("base").random_file("base/file", 100_000, 1))
        .layer(Layer::new().file("top", top.as_bytes()))
        .build()
}

fn chain(image: &Image) -> Vec<String> {
    berth_model::chain_ids(&image.diff_ids).iter().map(ToString::to_string).collect()
}

async fn snapshots_are_named_by_chain_ids(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image("x");
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let chain = chain(&image);
    let mut expected = chain.clone();
    expected.sort();
    assert_eq!(snapshots(&stage)?, expected);

    let about = stage.json(["snapshots", "info", &chain[1]])?;
    assert_eq!(about["key"], json!(chain[1]), "{about:#}");
    assert_eq!(about["parent"], json!(chain[0]), "{about:#}");
    assert_eq!(about["kind"], json!("committed"), "{about:#}");

    let table = stage.ok(["snapshots", "usage", "-b", &chain[0]])?;
    let row: Vec<&str> = table.lines().find(|line| line.contains(&chain[0])).unwrap().split_whitespace().collect();
    let size: u64 = row[1].parse()?;
    assert!((100_000..200_000).contains(&size), "{table}");
    // The root directory, `base` and `base/file`.
    assert_eq!(row[2], "3", "{table}");
    Ok(())
}

async fn snapshots_are_removed_from_the_top(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image("x");
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let chain = chain(&image);
    let said = stage.fails(["snapshots", "rm", &chain[0]])?;
    assert!(said.contains("child"), "{said}");
    let said = stage.fails(["snapshots", "mounts", "/mnt", &chain[1]])?;
    assert!(said.contains(&chain[1]), "a committed snapshot has no mounts: {said}");
    stage.ok(["snapshots", "rm", &chain[1]])?;
    // Now nothing stands on the lower one: a collection takes it.
    stage.ok(["gc"])?;
    assert_eq!(snapshots(&stage)?, Vec::<String>::new());
    // Made again from the blobs that are there.
    let before = registry.requests("\"GET /v2/app/blobs/");
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(snapshots(&stage)?.len(), 2);
    assert_eq!(registry.requests("\"GET /v2/app/blobs/"), before, "{}", registry.log());
    Ok(())
}

async fn images_share_their_lower_snapshots(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    for top in ["one", "two"] {
        let reference = push(&image(top), &registry, "app", top).await?;
        stage.ok(["pull", "--plain-http", &reference])?;
    }
    assert_eq!(snapshots(&stage)?.len(), 3);
    Ok(())
}

/// As one does by hand what `berth images mount --rw` does.
async fn a_snapshot_is_made_mounted_and_committed(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image("x");
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let top = chain(&image).pop().unwrap();
    let directory = stage.scratch().join("mnt");
    fs::create_dir(&directory)?;
    let shown = directory.to_str().unwrap();
    let command = stage.ok(["snapshots", "prepare", "--target", shown, "mine", &top])?;
    assert_eq!(command, stage.ok(["snapshots", "mounts", shown, "mine"])?);
    let sh = |script: &str| Command::new("sh").args(["-ec", script]).status();
    let mounted = format!("{command}\necho changed > {shown}/top; rm {shown}/base/file; umount {shown}");
    assert!(sh(&mounted)?.success(), "{mounted}");
    stage.ok(["snapshots", "commit", "changed", "mine"])?;

    let command = stage.ok(["snapshots", "view", "--target", shown, "look", "changed"])?;
    let looked = format!(
        "{command}\ntrap 'umount {shown}' EXIT; test changed = $(cat {shown}/top); test ! -e {shown}/base/file"
    );
    assert!(sh(&looked)?.success(), "{looked}");
    stage.ok(["snapshots", "rm", "look", "changed"])?;
    assert_eq!(snapshots(&stage)?.len(), 2);
    Ok(())
}
