//! `ctr snapshots`, and what `ctr` unpacks and mounts itself: it applies layers by our diff service, and makes the mounts
//! that our snapshotter describes with its own means.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use berth_integration_tests::{ctr, facts::Mounted, image::push};
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
    shape::Stage,
    tree::{Tree, differences, read_tree},
};

with_a_daemon! {
    snapshots_are_made_committed_told_and_removed,
    what_changed_is_written_as_a_layer,
    an_image_is_unpacked_layer_by_layer,
    images_are_pulled_and_mounted_by_ctr,
    a_hundred_layers_are_mounted_by_everybody,
}

/// What was mounted on a directory, unmounted when dropped.
struct Unmounted(PathBuf);

impl Unmounted {
    fn directory(berth: &Berth, name: &str) -> Result<Self> {
        let path = berth.scratch().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn shown(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _not_mounted_any_more = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Mounts as a person would, by the command that was printed, and runs a script there.
fn by_hand(berth: &Berth, command: &str, script: &str) -> Result<()> {
    let at = Unmounted::directory(berth, "by-hand")?;
    let command = command.trim().replace("/target", at.shown());
    // mount(8) knows binds by their option alone.
    let command = command.replace("mount -t bind", "mount");
    let done = Command::new("sh").args(["-ec", &format!("{command}; cd {}; {script}", at.shown())]).status()?;
    ensure!(done.success(), "{command}; {script}");
    Ok(())
}

fn keys(berth: &Berth) -> Result<Vec<String>> {
    let listed = ctr::ok(berth, ["snapshots", "ls"])?;
    let rows = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    Ok(rows.map(str::to_owned).collect())
}

async fn snapshots_are_made_committed_told_and_removed(stage: Stage) -> Result<()> {
    let prepare = ctr::ok(&stage, ["snapshots", "prepare", "--target", "/target", "active"])?;
    assert_eq!(ctr::ok(&stage, ["snapshots", "mounts", "/target", "active"])?, prepare);
    by_hand(&stage, &prepare, "mkdir d; echo one > d/file; dd if=/dev/zero of=zeros bs=1000 count=300 2>/dev/null")?;
    let usage = ctr::ok(&stage, ["snapshots", "usage", "-b", "active"])?;
    let row: Vec<&str> = usage.lines().nth(1).context("a row")?.split_whitespace().collect();
    assert!((300_000..400_000).contains(&row[1].parse::<u64>()?) && row[2] == "4", "{usage}");
    ctr::ok(&stage, ["snapshots", "commit", "base", "active"])?;
    assert_eq!(keys(&stage)?, ["base"]);
    assert!(ctr::fails(&stage, ["snapshots", "mounts", "/target", "base"])?.contains("committed"));
    assert!(ctr::fails(&stage, ["snapshots", "info", "active"])?.contains("not found"));

    ctr::ok(&stage, ["snapshots", "prepare", "child", "base"])?;
    let view = ctr::ok(&stage, ["snapshots", "view", "--target", "/target", "look", "base"])?;
    by_hand(&stage, &view, "test $(cat d/file) = one; if echo > no; then exit 1; fi 2>/dev/null")?;
    let about: serde_json::Value = serde_json::from_str(&ctr::ok(&stage, ["snapshots", "info", "child"])?)?;
    assert_eq!((about["Kind"].as_str(), about["Parent"].as_str()), (Some("Active"), Some("base")), "{about:#}");
    let tree = ctr::ok(&stage, ["snapshots", "tree"])?;
    assert!(tree.contains("base") && tree.contains("\\_ child") && tree.contains("\\_ look"), "{tree}");

    let said = ctr::ok(&stage, ["snapshots", "label", "base", "team=a", "x=y"])?;
    assert!(said.contains("team=a") && said.contains("x=y"), "{said}");
    let said = ctr::ok(&stage, ["snapshots", "label", "base", "x="])?;
    assert!(said.contains("team=a") && !said.contains("x="), "{said}");

    assert!(ctr::fails(&stage, ["snapshots", "rm", "base"])?.contains("child"));
    assert!(ctr::fails(&stage, ["snapshots", "prepare", "child", "base"])?.contains("already exists"));
    assert!(ctr::fails(&stage, ["snapshots", "prepare", "other", "gone"])?.contains("not found"));
    assert!(ctr::fails(&stage, ["snapshots", "--snapshotter", "zfs", "ls"])?.contains("zfs"));
    ctr::ok(&stage, ["snapshots", "rm", "look", "child", "base"])?;
    assert_eq!(keys(&stage)?, Vec::<String>::new());
    Ok(())
}

/// The names in an archive, in order.
fn names(mut archive: tar::Archive<impl std::io::Read>) -> Result<Vec<String>> {
    let name = |entry: std::io::Result<tar::Entry<'_, _>>| Ok(entry?.path()?.display().to_string());
    archive.entries()?.map(name).collect()
}

async fn what_changed_is_written_as_a_layer(stage: Stage) -> Result<()> {
    let prepare = ctr::ok(&stage, ["snapshots", "prepare", "--target", "/target", "one"])?;
    by_hand(&stage, &prepare, "mkdir d; echo 1 > d/kept; echo 2 > d/gone; echo 3 > changed")?;
    ctr::ok(&stage, ["snapshots", "commit", "base", "one"])?;
    let prepare = ctr::ok(&stage, ["snapshots", "prepare", "--target", "/target", "two", "base"])?;
    by_hand(&stage, &prepare, "rm d/gone; echo more >> changed; ln -s d link")?;
    let written =
        Command::new("ctr").arg("--address").arg(stage.socket()).args(["snapshots", "diff", "two"]).output()?;
    ensure!(written.status.success(), "{written:?}");
    let found = names(tar::Archive::new(flate2::read::GzDecoder::new(&written.stdout[..])))?;
    assert_eq!(found, ["changed", "d/", "d/.wh.gone", "link"]);
    let plain =
        ["snapshots", "diff", "--media-type", "application/vnd.oci.image.layer.v1.tar", "--keep", "base", "two"];
    let out = Command::new("ctr").arg("--address").arg(stage.socket()).args(plain).output()?;
    ensure!(out.status.success(), "{out:?}");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&written.stdout[..]).read_to_end(&mut bytes)?;
    assert!(out.stdout == bytes, "the same layer, packed or not");
    let digest = berth_model::Digest::of(&bytes).to_string();
    let listed = ctr::ok(&stage, ["content", "ls"])?;
    let kept = listed.lines().find(|line| line.starts_with(&digest)).context("it was to be kept")?;
    assert!(kept.contains(&format!("containerd.io/uncompressed={digest}")), "{kept}");
    Ok(())
}

fn image() -> Image {
    ImageBuilder::new()
        .layer(Layer::new().dir("d").file("d/low", b"low").file("d/gone", b"gone").symlink("link", "d"))
        .layer(Layer::new().whiteout("d/gone").file("d/mid", b"mid").hardlink("d/same", "d/mid"))
        .layer(Layer::new().opaque("d").file("d/last", b"last"))
        .build()
}

async fn an_image_is_unpacked_layer_by_layer(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image();
    let reference = push(&image, &registry, "app", "v1").await?;
    ctr::ok(&stage, ["content", "fetch", "--plain-http", &reference])?;
    for snapshotter in ["overlayfs", "native"] {
        let manifest = image.manifest.digest.to_string();
        let chain = berth_model::chain_ids(&image.diff_ids);
        let top = chain.last().context("layers")?.to_string();
        ctr::ok(
            &stage,
            ["snapshots", "--snapshotter", snapshotter, "unpack", "--snapshotter", snapshotter, &manifest],
        )?;
        let of = ["snapshots", "--snapshotter", snapshotter];
        let about = ctr::ok(&stage, of.into_iter().chain(["info", &top]))?;
        assert!(about.contains("Committed"), "{about}");
        let view = ctr::ok(&stage, of.into_iter().chain(["view", "--target", "/target", "look", &top]))?;
        by_hand(&stage, &view, "test \"$(echo d/* link/*)\" = \"d/last link/last\"")?;
    }
    Ok(())
}

/// The image as Berth itself unpacks it, on a root of its own.
fn as_berth_unpacks_it(reference: &str) -> Result<Tree> {
    let other = Berth::new()?;
    other.ok(["pull", "--plain-http", reference])?;
    without_time_of_root(Mounted::new(&other, reference, &[])?.tree()?)
}

/// No layer of the image speaks of the root: its time is that of the unpacking.
fn without_time_of_root(mut tree: Tree) -> Result<Tree> {
    tree.get_mut(Path::new("")).context("a root")?.mtime = (0, 0);
    Ok(tree)
}

async fn images_are_pulled_and_mounted_by_ctr(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let reference = push(&image(), &registry, "app", "v1").await?;
    let expected = as_berth_unpacks_it(&reference)?;
    for snapshotter in ["overlayfs", "native"] {
        ctr::ok(&stage, ["images", "pull", "--plain-http", "--snapshotter", snapshotter, &reference])?;
        let at = Unmounted::directory(&stage, snapshotter)?;
        ctr::ok(&stage, ["images", "mount", "--snapshotter", snapshotter, "--rw", &reference, at.shown()])?;
        let found = differences(&expected, &without_time_of_root(read_tree(&at.0)?)?);
        assert!(found.is_empty(), "{snapshotter}: {found:#?}");
        fs::write(at.0.join("written"), "x")?;
        ctr::ok(&stage, ["images", "unmount", "--snapshotter", snapshotter, "--rm", at.shown()])?;
        assert!(!at.0.join("d").exists());
    }
    Ok(())
}

async fn a_hundred_layers_are_mounted_by_everybody(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let layers = (0..100).map(|n| Layer::new().file(&format!("file{n}"), b"x"));
    let image = layers.fold(ImageBuilder::new(), ImageBuilder::layer).build();
    let reference = push(&image, &registry, "many", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let count = |path: &Path| -> Result<usize> { Ok(fs::read_dir(path)?.count()) };
    for options in [&[][..], &["--rw"]] {
        assert_eq!(count(Mounted::new(&stage, &reference, options)?.path())?, 100);
        let at = Unmounted::directory(&stage, &format!("by-ctr{}", options.len()))?;
        let command = ["images", "mount"].into_iter().chain(options.iter().copied()).chain([&*reference, at.shown()]);
        ctr::ok(&stage, command)?;
        assert_eq!(count(&at.0)?, 100);
        ctr::ok(&stage, ["images", "unmount", "--rm", at.shown()])?;
    }
    Ok(())
}
