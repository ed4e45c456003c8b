//! The native snapshotter: pulled images are as independent tools make them, and images share nothing but what they are.

use std::fs;

use anyhow::Result;
use berth_integration_tests::{facts::Mounted, image::push};
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::{Shape, Stage},
};

use crate::differential;

fn stage(shape: Shape) -> Result<Stage> {
    let mut berth = Berth::new()?;
    berth.set("BERTH_SNAPSHOTTER", "native");
    Stage::start_on(shape, berth)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_odd_entry_is_as_gnu_tar_makes_it() -> Result<()> {
    differential::every_odd_entry_is_as_gnu_tar_makes_it(stage(Shape::Alone)?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_layers_need_of_each_other_is_as_gnu_tar_makes_it() -> Result<()> {
    differential::what_layers_need_of_each_other_is_as_gnu_tar_makes_it(stage(Shape::Daemon)?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_debian_is_as_umoci_makes_it() -> Result<()> {
    differential::a_real_debian_is_as_umoci_makes_it(stage(Shape::Alone)?).await
}

/// Both snapshotters hold the image; what one writes the other never shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshotters_do_not_know_each_other() -> Result<()> {
    let stage = stage(Shape::Daemon)?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"a")).layer(Layer::new().file("b", b"b")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    stage.ok(["pull", "--plain-http", "--snapshotter", "overlayfs", &reference])?;
    let copied = Mounted::new(&stage, &reference, &["--rw"])?;
    fs::write(copied.path().join("a"), "changed")?;
    fs::write(copied.path().join("new"), "new")?;
    let again = Mounted::new(&stage, &reference, &[])?;
    assert_eq!(fs::read_to_string(again.path().join("a"))?, "a");
    assert!(!again.path().join("new").exists() && fs::write(again.path().join("no"), "no").is_err());
    for snapshotter in ["native", "overlayfs"] {
        let listed = stage.ok(["snapshots", "ls", "-q", "--snapshotter", snapshotter])?;
        for chain in berth_model::chain_ids(&image.diff_ids) {
            assert!(listed.contains(&chain.to_string()), "{snapshotter}: {listed}");
        }
    }
    Ok(())
}
