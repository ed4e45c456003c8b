//! Entries that the process may not create: it is root, but lacks a capability, as in many containers.

use std::process::Command;

use anyhow::Result;
use berth_integration_tests::layer::{Entry, layer};
use berth_testing::{
    berth::Berth,
    hostile::Faults,
    image::{ImageBuilder, Layer},
    running::Running,
    shape::{Shape, Stage},
};

use super::serving;
use crate::store::check_sound;

/// Pulls without a capability; the error names the entry.
async fn without(capability: &str, entry: Entry, says: &[&str]) -> Result<()> {
    let stage = Stage::start_on(Shape::Alone, Berth::new()?)?;
    let image = ImageBuilder::new()
        .layer(Layer::new().file("fine", b"x"))
        .layer(Layer::from_tar(layer([Entry::dir("dir"), entry])?))
        .build();
    let (_registry, reference) = serving(&image, Faults::none()).await;
    let whole = stage.command(["pull", "--plain-http", &reference]);
    let mut command = Command::new("setpriv");
    let less = format!("-{capability}");
    command.args(["--bounding-set", &less, "--inh-caps", &less, "--"]).arg(whole.get_program()).args(whole.get_args());
    let pulled = Running::start(command)?.finish()?;
    assert!(pulled.code > 0 && pulled.code != 101, "{pulled:?}");
    for word in says {
        assert!(pulled.stderr.contains(word), "{word:?} in {}", pulled.stderr);
    }
    check_sound(&stage).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_the_right_to_make_devices() -> Result<()> {
    without("mknod", Entry::block_device("dir/disk", 7, 0), &["dir/disk"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_capability_without_the_right_to_set_it() -> Result<()> {
    let capable = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let entry = Entry::file("dir/ping", "x").xattr("security.capability", capable);
    without("setfcap", entry, &["dir/ping", "security.capability"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_without_the_right_to_give_files_away() -> Result<()> {
    without("chown", Entry::file("dir/given", "x").owner(1000, 1000), &["dir/given"]).await
}
