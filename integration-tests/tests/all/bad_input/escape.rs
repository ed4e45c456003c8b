//! Layers that try to leave their directory. Nothing outside is read, made or changed.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Result;
use berth_integration_tests::{
    facts::Mounted,
    layer::{Entry, layer},
};
use berth_testing::{
    hostile::Faults,
    image::{ImageBuilder, Layer},
    running::Finished,
    shape::Stage,
    tree::{differences, read_tree},
};

use super::serving;
use crate::store::check_sound;

in_every_shape! {
    by_an_absolute_name,
    by_dots,
    by_dots_in_the_middle,
    through_a_symlink,
    through_a_symlink_with_dots,
    by_a_hard_link_to_an_absolute_name,
    by_a_hard_link_with_dots,
    by_a_hard_link_through_a_symlink,
    through_a_parent_that_became_a_symlink,
    by_a_whiteout_of_dots,
    by_a_whiteout_named_dots,
    by_a_whiteout_through_a_symlink,
    by_an_opaque_marker_through_a_symlink,
    through_a_symlink_of_a_lower_layer,
}

/// A directory that a layer must not reach.
struct Outside {
    directory: tempfile::TempDir,
}

impl Outside {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("secret"), b"secret")?;
        fs::create_dir(directory.path().join("inner"))?;
        fs::write(directory.path().join("inner/file"), b"inner")?;
        Ok(Self { directory })
    }

    fn absolute(&self, below: &str) -> String {
        self.path().join(below).display().to_string()
    }

    fn by_dots(&self, below: &str) -> String {
        format!("{}{}", "../".repeat(40), self.absolute(below).trim_start_matches('/'))
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The attack is the second layer. Whatever becomes of it, nothing outside is made, changed or linked to.
async fn attack(stage: &Stage, outside: &Outside, entries: Vec<Entry>) -> Result<(Finished, String)> {
    let before = read_tree(outside.path())?;
    let image = ImageBuilder::new()
        .layer(Layer::new().dir("etc").file("etc/motd", b"hello"))
        .layer(Layer::from_tar(layer(entries)?))
        .build();
    let (_registry, reference) = serving(&image, Faults::none()).await;
    let pulled = stage.run(["pull", "--plain-http", &reference])?;
    let different = differences(&before, &read_tree(outside.path())?);
    assert!(different.is_empty(), "OUTSIDE CHANGED: {}\n{pulled:?}", different.join("\n"));
    for file in ["secret", "inner/file"] {
        assert_eq!(fs::metadata(outside.path().join(file))?.nlink(), 1, "LINKED TO FROM OUTSIDE: {file}");
    }
    Ok((pulled, reference))
}

/// What cannot be meant well is refused, with the entry's name.
async fn refused(stage: &Stage, outside: &Outside, entries: Vec<Entry>, name: &str) -> Result<()> {
    let (pulled, _) = attack(stage, outside, entries).await?;
    assert!(pulled.code > 0 && pulled.code != 101, "{pulled:?}");
    assert!(pulled.stderr.contains(name), "{name} in {}", pulled.stderr);
    check_sound(stage).await
}

/// What also honest layers do (a name with a slash before, a way through a symlink) means a place below the image's own
/// root, as for a process that has it as its root. `made` is where something appeared, if anything did.
async fn contained(stage: &Stage, outside: &Outside, entries: Vec<Entry>, made: Option<&str>) -> Result<()> {
    let (pulled, reference) = attack(stage, outside, entries).await?;
    assert_eq!(pulled.code, 0, "{pulled:?}");
    let mounted = Mounted::new(stage, &reference, &[])?;
    assert_eq!(fs::read(mounted.path().join("etc/motd"))?, b"hello");
    if let Some(made) = made {
        let inside = mounted.path().join(outside.absolute(made).trim_start_matches('/'));
        assert!(inside.exists(), "{} is not there", inside.display());
    }
    Ok(())
}

async fn by_an_absolute_name(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let name = outside.absolute("made");
    contained(&stage, &outside, vec![Entry::file(&name, "x")], Some("made")).await
}

async fn by_dots(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let name = outside.by_dots("made");
    refused(&stage, &outside, vec![Entry::file(&name, "x")], "../").await
}

async fn by_dots_in_the_middle(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let name = format!("dir/{}", outside.by_dots("made"));
    refused(&stage, &outside, vec![Entry::dir("dir"), Entry::file(&name, "x")], "../").await
}

async fn through_a_symlink(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![Entry::symlink("way-out", &outside.absolute("")), Entry::file("way-out/made", "x")];
    contained(&stage, &outside, entries, Some("made")).await
}

async fn through_a_symlink_with_dots(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![Entry::symlink("way-out", &outside.by_dots("")), Entry::dir("way-out/inner/made")];
    contained(&stage, &outside, entries, Some("inner/made")).await
}

async fn by_a_hard_link_to_an_absolute_name(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let target = outside.absolute("secret");
    refused(&stage, &outside, vec![Entry::hard_link("stolen", &target)], "stolen").await
}

async fn by_a_hard_link_with_dots(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let target = outside.by_dots("secret");
    let entries = vec![Entry::hard_link("stolen", &target), Entry::file("stolen", "overwritten")];
    refused(&stage, &outside, entries, "stolen").await
}

async fn by_a_hard_link_through_a_symlink(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![Entry::symlink("way-out", &outside.absolute("")), Entry::hard_link("stolen", "way-out/secret")];
    refused(&stage, &outside, entries, "stolen").await
}

async fn through_a_parent_that_became_a_symlink(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![
        Entry::dir("dir"),
        Entry::file("dir/fine", "x"),
        Entry::symlink("dir", &outside.absolute("")),
        Entry::file("dir/made", "x"),
    ];
    contained(&stage, &outside, entries, Some("made")).await
}

async fn by_a_whiteout_of_dots(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![Entry::file(&outside.by_dots("inner/.wh.file"), "")];
    refused(&stage, &outside, entries, ".wh.").await
}

/// The name after `.wh.` is `..`: the directory above would be removed.
async fn by_a_whiteout_named_dots(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    refused(&stage, &outside, vec![Entry::file("etc/.wh...", "")], ".wh...").await
}

async fn by_a_whiteout_through_a_symlink(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![Entry::symlink("way-out", &outside.absolute("")), Entry::whiteout("way-out/secret")];
    contained(&stage, &outside, entries, None).await
}

async fn by_an_opaque_marker_through_a_symlink(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let entries = vec![Entry::symlink("way-out", &outside.absolute("")), Entry::opaque("way-out/inner")];
    contained(&stage, &outside, entries, None).await
}

/// A layer cannot know what lies below it; the way through a lower symlink stays inside.
async fn through_a_symlink_of_a_lower_layer(stage: Stage) -> Result<()> {
    let outside = Outside::new()?;
    let before = read_tree(outside.path())?;
    let image = ImageBuilder::new()
        .layer(Layer::from_tar(layer([Entry::symlink("way-out", &outside.absolute(""))])?))
        .layer(Layer::from_tar(layer([Entry::file("way-out/made", "x"), Entry::whiteout("way-out/secret")])?))
        .build();
    let (_registry, reference) = serving(&image, Faults::none()).await;
    let pulled = stage.run(["pull", "--plain-http", &reference])?;
    assert_ne!(pulled.code, 101, "{pulled:?}");
    let different = differences(&before, &read_tree(outside.path())?);
    assert!(different.is_empty(), "OUTSIDE CHANGED: {}", different.join("\n"));
    Ok(())
}
