//! The content store as `berth content` shows it, and as it is on disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Result;
use berth_integration_tests::{
    facts::blobs,
    image::{digests, push},
};
use berth_model::Digest;
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::Stage,
};
use serde_json::json;

in_every_shape! {
    content_is_listed_read_and_removed,
    blobs_lie_where_containerd_puts_them,
}

async fn content_is_listed_read_and_removed(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    // Larger than any message of the bus: it comes in pieces.
    let image = ImageBuilder::new().layer(Layer::new().random_file("big", 5 << 20, 1)).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(blobs(&stage)?, digests(&image));

    let layer = image.layers[0].digest;
    let about = stage.json(["content", "info", &layer.to_string()])?;
    assert_eq!(about["digest"], json!(layer.to_string()));
    assert_eq!(about["size"], json!(image.layers[0].size));

    let read = stage.command(["content", "get", &layer.to_string()]).stderr(Stdio::inherit()).output()?;
    assert!(read.status.success());
    assert_eq!(Digest::of(&read.stdout), layer, "byte for byte");

    stage.ok(["content", "rm", &layer.to_string()])?;
    assert!(!blobs(&stage)?.contains(&layer.to_string()));
    for verb in ["info", "get", "rm"] {
        let said = stage.fails(["content", verb, &layer.to_string()])?;
        assert!(said.contains(&layer.to_string()), "{verb}: {said}");
    }
    // What was removed is fetched again, and only that.
    let before = registry.requests("\"GET /v2/app/blobs/");
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(blobs(&stage)?, digests(&image));
    assert_eq!(registry.requests("\"GET /v2/app/blobs/"), before + 1, "{}", registry.log());
    Ok(())
}

async fn blobs_lie_where_containerd_puts_them(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let found = super::store::blob_files(stage.root())?;
    let mut names: Vec<String> = found.iter().map(PathBuf::as_path).map(file_name).collect();
    names.sort();
    let mut expected: Vec<String> = image.blobs.keys().map(Digest::hex).collect();
    expected.sort();
    assert_eq!(names, expected);
    for path in &found {
        assert_eq!(Digest::of(&fs::read(path)?).hex(), file_name(path));
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
