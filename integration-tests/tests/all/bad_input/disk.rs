//! Disks that are full, and directories that may not be written.

use std::fs;

use anyhow::Result;
use berth_integration_tests::{
    facts::{image_names, lines},
    image::push,
    power::PowerDisk,
};
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::{Shape, Stage},
    tiny_disk::TinyDisk,
};

use crate::store::check_sound;

/// The disk is full, says the pull; with more space the same root is sound.
async fn full(shape: Shape, layer: Layer) -> Result<()> {
    let disk = TinyDisk::new(24 << 20)?;
    let stage = Stage::start_on(shape, Berth::at(&disk.path().join("root"))?)?;
    let registry = DockerRegistry::start()?;
    let reference = push(&ImageBuilder::new().layer(layer).build(), &registry, "app", "v1").await?;
    let said = stage.fails(["pull", "--plain-http", &reference])?;
    assert!(said.contains("space") || said.contains("full"), "{said}");
    assert!(said.contains(disk.path().to_str().unwrap()), "names the place: {said}");
    disk.resize(200 << 20)?;
    check_sound(&stage).await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    // The servers end before the disk goes.
    drop(stage);
    Ok(())
}

/// The layer's blob does not fit.
async fn full_of_blobs(shape: Shape) -> Result<()> {
    full(shape, Layer::new().random_file("big", 40 << 20, 1)).await
}

/// The blob fits, what is in it does not.
async fn full_of_files(shape: Shape) -> Result<()> {
    full(shape, Layer::new().file("big", &vec![7; 60 << 20])).await
}

/// A small real file system, full of images: removing some and collecting gives room for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_emptied_by_a_collection() -> Result<()> {
    let disk = PowerDisk::new(64 << 20)?;
    let stage = Stage::start_on(Shape::Daemon, Berth::at(&disk.path().join("root"))?)?;
    let registry = DockerRegistry::start()?;
    let mut pulled = Vec::new();
    let said = loop {
        let layer = Layer::new().random_file("big", 6 << 20, 100 + pulled.len() as u64);
        let tag = format!("v{}", pulled.len());
        let reference = push(&ImageBuilder::new().layer(layer).build(), &registry, "app", &tag).await?;
        let ended = stage.run(["pull", "--plain-http", &reference])?;
        if ended.code != 0 {
            break ended.stderr;
        }
        pulled.push(reference);
        assert!(pulled.len() < 12, "64 MiB hold no {} images", pulled.len());
    };
    assert!(said.contains("space") && said.contains(disk.path().to_str().unwrap()), "{said}");
    assert_eq!(image_names(&stage)?, pulled, "what was told is there");
    for reference in &pulled[1..] {
        stage.ok(["images", "rm", reference])?;
    }
    // What the pull that failed had fetched is kept for its next try, under its lease.
    for lease in lines(&stage.ok(["leases", "ls", "--quiet"])?) {
        stage.ok(["leases", "rm", &lease])?;
    }
    stage.ok(["gc"])?;
    for reference in &pulled {
        stage.ok(["pull", "--plain-http", reference])?;
    }
    assert_eq!(image_names(&stage)?, pulled);
    // The servers end before the disk goes.
    drop(stage);
    Ok(())
}

macro_rules! in_each {
    ($($name:ident $scenario:ident $shape:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<()> {
                $scenario(Shape::$shape).await
            }
        )*
    };
}

in_each! {
    blobs_that_do_not_fit_alone full_of_blobs Alone;
    blobs_that_do_not_fit_daemon full_of_blobs Daemon;
    blobs_that_do_not_fit_nats full_of_blobs Nats;
    files_that_do_not_fit_alone full_of_files Alone;
    files_that_do_not_fit_daemon full_of_files Daemon;
    files_that_do_not_fit_nats full_of_files Nats;
}

#[test]
fn a_root_on_a_read_only_disk() -> Result<()> {
    let disk = TinyDisk::new(8 << 20)?;
    let root = disk.path().join("root");
    fs::create_dir(&root)?;
    disk.make_read_only()?;
    let berth = Berth::at(&root)?;
    let said = berth.fails(["pull", "--plain-http", "127.0.0.1:1/app:v1"])?;
    assert!(said.contains(root.to_str().unwrap()), "{said}");
    assert!(said.contains("--root"), "names the remedy: {said}");
    Ok(())
}

#[test]
fn a_root_that_is_a_file() -> Result<()> {
    let berth = Berth::new()?;
    fs::write(berth.root(), b"not a directory")?;
    let said = berth.fails(["pull", "--plain-http", "127.0.0.1:1/app:v1"])?;
    assert!(said.contains(berth.root().to_str().unwrap()), "{said}");
    Ok(())
}
