//! A mounted image equals what independent tools make of it, down to the nanosecond.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use berth_integration_tests::{
    facts::Mounted,
    gnu_tar::extracted_by_gnu_tar,
    image::{packed, push, read_layout},
    layer::{Entry, layer},
    odd::odd_layers,
    umoci::unpacked_by_umoci,
};
use berth_testing::{
    docker_registry::DockerRegistry,
    shape::Stage,
    tree::{Tree, differences},
};

in_every_shape! {
    every_odd_entry_is_as_gnu_tar_makes_it,
    what_layers_need_of_each_other_is_as_gnu_tar_makes_it,
    a_real_debian_is_as_umoci_makes_it,
    overlayfs_attributes_in_a_layer_mean_nothing,
}

/// Pulls layers as an image and mounts it.
pub(crate) async fn mounted_tree(stage: &Stage, layers: &[Vec<u8>]) -> Result<Tree> {
    let registry = DockerRegistry::start()?;
    let reference = push(&packed(layers), &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    Mounted::new(stage, &reference, &[])?.tree()
}

pub(crate) fn check(expected: &Tree, found: &Tree) {
    let different = differences(expected, found);
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// GNU tar's opinion on the layers, in the form in which they are pulled.
pub(crate) fn expected_tree(stage: &Stage, layers: &[Vec<u8>]) -> Result<Tree> {
    extracted_by_gnu_tar(layers.iter().map(Vec::as_slice), &stage.scratch().join("expected"))
}

pub(crate) async fn every_odd_entry_is_as_gnu_tar_makes_it(stage: Stage) -> Result<()> {
    let layers = odd_layers()?;
    check(&expected_tree(&stage, &layers)?, &mounted_tree(&stage, &layers).await?);
    Ok(())
}

/// A layer may go through a symlink of a lower layer, link to a lower file, and remove what it goes through.
pub(crate) async fn what_layers_need_of_each_other_is_as_gnu_tar_makes_it(stage: Stage) -> Result<()> {
    let layers = [
        layer([
            Entry::dir("./").mtime("1650000000.25"),
            Entry::dir("usr").mtime("1600000000.5"),
            Entry::dir("usr/lib").mode(0o750).owner(3, 4).mtime("1600000001.5"),
            Entry::file("usr/lib/old", "old"),
            Entry::file("usr/lib/linked", "one inode").mode(0o640).owner(5, 6),
            Entry::symlink("lib", "usr/lib"),
            Entry::dir("a"),
            Entry::dir("a/b"),
            Entry::file("a/b/c", "c"),
            Entry::file("a/b/d", "d"),
        ])?,
        layer([Entry::file("lib/through-the-symlink", "new"), Entry::whiteout("lib/old"), Entry::whiteout("a/b/c")])?,
        layer([
            Entry::dir("links"),
            Entry::hard_link("links/to-a-lower-file", "usr/lib/linked"),
            Entry::file("a/b/e", "e"),
        ])?,
    ];
    check(&expected_tree(&stage, &layers)?, &mounted_tree(&stage, &layers).await?);
    Ok(())
}

/// The image `scripts/debian-image` makes; made once, for all tests and for `scripts/pull`.
pub(crate) fn debian_image() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target directory")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/debian-image");
    let made = Command::new(script).arg(target.join("debian-image")).output()?;
    ensure!(made.status.success(), "scripts/debian-image failed: {}", String::from_utf8_lossy(&made.stderr));
    Ok(target.join("debian-image/oci"))
}

pub(crate) async fn a_real_debian_is_as_umoci_makes_it(stage: Stage) -> Result<()> {
    let layout = debian_image()?;
    let expected = unpacked_by_umoci(&layout, stage.scratch())?;
    assert!(expected.len() > 3000, "that is no Debian: {} entries", expected.len());
    let registry = DockerRegistry::start()?;
    let reference = push(&read_layout(&layout)?, &registry, "debian", "latest").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let mounted = Mounted::new(&stage, &reference, &[])?;
    check(&expected, &mounted.tree()?);
    assert!(fs::read_to_string(mounted.path().join("etc/os-release"))?.contains("Debian"));
    Ok(())
}

/// Attributes with which overlayfs hides and redirects are for its own use; from a layer they are dropped.
async fn overlayfs_attributes_in_a_layer_mean_nothing(stage: Stage) -> Result<()> {
    let below =
        [Entry::dir("dir"), Entry::file("dir/file", "here"), Entry::dir("other"), Entry::file("other/file", "x")];
    let above = [
        Entry::dir("dir").xattr("trusted.overlay.opaque", "y"),
        Entry::dir("elsewhere").xattr("trusted.overlay.redirect", "/other"),
    ];
    let layers = [layer(below)?, layer(above)?];
    let tree = mounted_tree(&stage, &layers).await?;
    assert!(tree.contains_key(Path::new("dir/file")), "nothing is hidden");
    assert!(!tree.contains_key(Path::new("elsewhere/file")), "nothing is redirected");
    Ok(())
}

/// Two tools that know nothing of each other agree: so the opinions compared with above are sound.
#[test]
fn umoci_and_gnu_tar_agree_on_a_real_debian() -> Result<()> {
    let layout = debian_image()?;
    let scratch = tempfile::tempdir()?;
    let umoci = unpacked_by_umoci(&layout, scratch.path())?;
    let image = read_layout(&layout)?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        let mut tar = Vec::new();
        flate2::read::MultiGzDecoder::new(&image.blobs[&layer.digest][..]).read_to_end(&mut tar)?;
        layers.push(tar);
    }
    let tar = extracted_by_gnu_tar(layers.iter().map(Vec::as_slice), &scratch.path().join("tar"))?;
    check(&umoci, &tar);
    Ok(())
}
