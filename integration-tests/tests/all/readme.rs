//! The commands of the README work as they stand there.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::{Context as _, Result};
use berth_integration_tests::image::push;
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    running::Running,
    shape::{Shape, Stage},
};

/// What stands before a block of commands that this test runs.
const MARK: &str = "<!-- tested -->";

/// The marked blocks of shell commands.
fn tested_blocks(text: &str) -> Vec<String> {
    text.split(MARK)
        .skip(1)
        .filter_map(|rest| {
            let (_, block) = rest.split_once("```sh\n")?;
            Some(block.split_once("```")?.0.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_works() -> Result<()> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))?;
    let blocks = tested_blocks(&readme);
    assert!(!blocks.is_empty(), "the README has marked blocks");
    let stage = Stage::start(Shape::Alone)?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new()
        .layer(Layer::new().dir("etc").file("etc/os-release", b"ID=test\n"))
        .layer(Layer::new().dir("usr").file("usr/file", b"x"));
    let reference = push(&image.build(), &registry, "library/debian", "12").await?;

    let programs = stage.scratch().join("bin");
    fs::create_dir(&programs)?;
    symlink(berth_testing::berth::binary(), programs.join("berth"))?;
    let path = std::env::var("PATH").context("PATH")?;
    // The reader's registry is on the internet; ours is here and speaks plain HTTP.
    let script = blocks.join("\n").replace("image=debian:12", &format!("image=\"--plain-http {reference}\""));
    let script = script.replace("berth pull \"$image\"", "berth pull $image\nimage=${image#* }");
    assert!(script.contains(&reference), "the tour names its image: {script}");
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-x", "-c", &script])
        .current_dir(stage.scratch())
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("BERTH_ROOT", stage.root())
        .env("BERTH_ADDRESS", stage.socket())
        .env("HOME", stage.scratch());
    let done = Running::start(command)?.finish()?;
    assert_eq!(done.code, 0, "{}\n{}", done.stdout, done.stderr);
    Ok(())
}
