//! Damage on the disk: found, named, and mended from the blob or from the registry.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Result;
use berth_integration_tests::{facts::Mounted, image::push};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
    shape::Stage,
    tree::Tree,
};

in_every_shape! {
    a_sound_store_has_nothing_to_mend,
    damaged_blobs_are_fetched_again,
    damaged_snapshots_are_unpacked_again,
    what_cannot_be_mended_is_named,
}

fn image() -> Image {
    let lower = Layer::new().dir("etc").file("etc/lower", b"lower").random_file("big", 300_000, 1);
    let upper = Layer::new().file("etc/upper", b"upper").hardlink("etc/second", "etc/upper").whiteout("big");
    ImageBuilder::new().layer(lower).layer(upper).build()
}

fn blob(root: &Path, digest: &berth_model::Digest) -> PathBuf {
    root.join("content/blobs/sha256").join(digest.hex())
}

/// Changes one byte and nothing else: not the time, not the mode.
fn flip(path: &Path) -> Result<()> {
    let facts = fs::metadata(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes)?;
    fs::File::options().write(true).open(path)?.set_modified(facts.modified()?)?;
    fs::set_permissions(path, facts.permissions())?;
    Ok(())
}

/// The tree of the layer that has this file.
fn tree_with(root: &Path, file: &str) -> PathBuf {
    let dirs = fs::read_dir(root.join("snapshots/overlayfs/snapshots")).unwrap();
    let trees = dirs.map(|dir| dir.unwrap().path().join("fs"));
    trees.into_iter().find(|tree| tree.join(file).symlink_metadata().is_ok()).unwrap_or_else(|| panic!("no {file}"))
}

/// The image as it is mounted. The layers say nothing of the root's time.
fn tree(stage: &Stage, name: &str) -> Result<Tree> {
    let mut tree = Mounted::new(stage, name, &[])?.tree()?;
    if let Some(root) = tree.get_mut(Path::new("")) {
        root.mtime = (0, 0);
    }
    Ok(tree)
}

async fn pulled(stage: &Stage) -> Result<(DockerRegistry, Image, String)> {
    let registry = DockerRegistry::start()?;
    let image = image();
    let name = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    Ok((registry, image, name))
}

async fn a_sound_store_has_nothing_to_mend(stage: Stage) -> Result<()> {
    let (_registry, _, name) = pulled(&stage).await?;
    let mounted = Mounted::new(&stage, &name, &["--rw"])?;
    fs::write(mounted.path().join("etc/new"), b"x")?;
    for args in [vec![], vec!["--deep"], vec!["--deep", "--repair"]] {
        let said = stage.ok([vec!["content", "fsck"], args].concat())?;
        assert!(said.contains(" 0 damaged, 0 mended"), "{said}");
    }
    Ok(())
}

async fn damaged_blobs_are_fetched_again(stage: Stage) -> Result<()> {
    let (_registry, image, name) = pulled(&stage).await?;
    let [flipped, gone] = [image.layers[0].digest, image.layers[1].digest];
    let right = fs::read(blob(stage.root(), &flipped))?;
    flip(&blob(stage.root(), &flipped))?;
    stage.ok(["content", "fsck"])?;
    fs::remove_file(blob(stage.root(), &gone))?;
    let said = stage.run(["content", "fsck"])?;
    assert_ne!(said.code, 0);
    assert!(said.stdout.contains(&gone.to_string()) && !said.stdout.contains(&flipped.to_string()), "{}", said.stdout);
    assert!(said.stdout.contains("fsck --repair"), "says what to do: {}", said.stdout);
    let said = stage.run(["content", "fsck", "--deep"])?;
    assert_ne!(said.code, 0);
    assert!(said.stdout.contains(&gone.to_string()) && said.stdout.contains(&flipped.to_string()), "{}", said.stdout);
    assert!(blob(stage.root(), &flipped).exists(), "nothing was asked to be mended");

    let said = stage.ok(["content", "fsck", "--deep", "--repair"])?;
    assert!(said.contains("2 damaged, 2 mended") && said.contains("fetched again from 127.0.0.1"), "{said}");
    assert_eq!(fs::read(blob(stage.root(), &flipped))?, right);
    let said = stage.ok(["content", "fsck", "--deep"])?;
    assert!(said.contains(" 0 damaged"), "{said}");
    Mounted::new(&stage, &name, &[])?;
    Ok(())
}

async fn damaged_snapshots_are_unpacked_again(stage: Stage) -> Result<()> {
    let (_registry, _, name) = pulled(&stage).await?;
    let right = tree(&stage, &name)?;
    let (lower, upper) = (tree_with(stage.root(), "etc/lower"), tree_with(stage.root(), "etc/upper"));
    flip(&lower.join("etc/lower"))?;
    fs::remove_file(upper.join("etc/second"))?;
    fs::set_permissions(upper.join("etc/upper"), fs::Permissions::from_mode(0o600))?;
    stage.ok(["content", "fsck"])?;
    let said = stage.run(["content", "fsck", "--deep"])?;
    assert_ne!(said.code, 0);
    for fault in ["/etc/lower: has other bytes", "/etc/second: is missing", "/etc/upper: has another mode"] {
        assert!(said.stdout.contains(fault), "{fault}: {}", said.stdout);
    }
    let said = stage.ok(["content", "fsck", "--deep", "--repair"])?;
    assert!(said.contains("2 damaged, 2 mended") && said.contains("unpacked again"), "{said}");
    assert_eq!(tree(&stage, &name)?, right);

    // A whole directory: seen without reading anything.
    let lost = tree_with(stage.root(), "etc/upper").parent().unwrap().to_owned();
    fs::remove_dir_all(&lost)?;
    assert_ne!(stage.run(["content", "fsck"])?.code, 0);
    let said = stage.ok(["content", "fsck", "--repair"])?;
    assert!(said.contains("1 mended"), "{said}");
    assert_eq!(fs::metadata(&lost)?.mode() & 0o777, 0o700);
    assert_eq!(tree(&stage, &name)?, right);
    let said = stage.ok(["content", "fsck", "--deep"])?;
    assert!(said.contains(" 0 damaged"), "{said}");
    Ok(())
}

async fn what_cannot_be_mended_is_named(stage: Stage) -> Result<()> {
    let (registry, image, name) = pulled(&stage).await?;
    let digest = image.layers[0].digest;
    flip(&blob(stage.root(), &digest))?;
    drop(registry);
    let said = stage.run(["content", "fsck", "--deep", "--repair"])?;
    assert_ne!(said.code, 0);
    assert!(said.stdout.contains(&format!("damaged content/{digest}")), "{}", said.stdout);
    assert!(said.stdout.contains("could not be fetched again"), "{}", said.stdout);
    // Wrong bytes are not served; what was unpacked before is still right.
    assert!(stage.fails(["content", "get", &digest.to_string()])?.contains(&digest.to_string()));
    Mounted::new(&stage, &name, &[])?;
    assert!(stage.root().join("content/damaged").join(digest.hex()).exists(), "kept to look at");
    Ok(())
}
