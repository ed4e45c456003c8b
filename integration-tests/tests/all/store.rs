//! Whether a store is sound, told from its files and by using it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use berth_integration_tests::{
    facts::{Mounted, blobs, image_names},
    image::{digests, push},
};
use berth_model::Digest;
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::Stage,
};

/// The files `.../blobs/sha256/<hex>` below a root.
pub(crate) fn blob_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    // What was refused at once has made no store.
    let mut waiting = if root.exists() { vec![root.to_owned()] } else { Vec::new() };
    while let Some(directory) = waiting.pop() {
        let holds_blobs = directory.ends_with("blobs/sha256");
        for child in fs::read_dir(&directory)? {
            let child = child?;
            // Snapshots hold what images hold: nothing to look for.
            if child.file_type()?.is_dir() && child.file_name() != "snapshots" {
                waiting.push(child.path());
            } else if holds_blobs {
                found.push(child.path());
            }
        }
    }
    Ok(found)
}

/// How many bytes there are in files named `data`, which is where ingests grow.
pub(crate) fn ingested_bytes(root: &Path) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        // Things come and go while a pull runs.
        for child in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let is_directory = child.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && child.file_name() != "snapshots" {
                waiting.push(child.path());
            } else if child.file_name() == "data" {
                bytes += child.metadata().map_or(0, |about| about.len());
            }
        }
    }
    bytes
}

/// The store holds no wrong blob, and a good image can be pulled into it and mounted.
pub(crate) async fn check_sound(stage: &Stage) -> Result<()> {
    for path in blob_files(stage.root())? {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(Digest::of(&fs::read(&path)?).hex(), name, "a blob with wrong bytes: {}", path.display());
    }
    assert_eq!(image_names(stage)?, Vec::<String>::new(), "no record of what was not pulled");
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new()
        .layer(Layer::new().file("sound", b"yes"))
        .layer(Layer::new().file("and", b"on top"))
        .build();
    let reference = push(&image, &registry, "sound", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let there = blobs(stage)?;
    for digest in digests(&image) {
        assert!(there.contains(&digest), "{digest} in {there:?}");
    }
    let mounted = Mounted::new(stage, &reference, &[])?;
    assert_eq!(fs::read(mounted.path().join("sound"))?, b"yes");
    Ok(())
}
