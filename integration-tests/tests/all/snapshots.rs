//! Snapshots: named by chain ids, counted, mounted by hand, removed from the top.

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

    let about = stage.json(["snapshots", "info", "--json", &chain[1]])?;
    assert_eq!(about["name"], json!(chain[1]), "{about:#}");
    assert_eq!(about["parent"], json!(chain[0]), "{about:#}");
    assert_eq!(about["kind"], json!("committed"), "{about:#}");

    let usage = stage.json(["snapshots", "usage", "--json", &chain[0]])?;
    let size = usage["size"].as_u64().unwrap();
    assert!((100_000..200_000).contains(&size), "{usage:#}");
    // The root directory, `base` and `base/file`.
    assert_eq!(usage["inodes"], json!(3), "{usage:#}");
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
    let said = stage.fails(["snapshots", "mounts", &chain[1]])?;
    assert!(said.contains(&chain[1]), "a committed snapshot has no mounts: {said}");
    stage.ok(["snapshots", "rm", &chain[1]])?;
    stage.ok(["snapshots", "rm", &chain[0]])?;
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
