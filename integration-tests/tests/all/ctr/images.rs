//! `ctr images`: everything that needs no unpacked layers.

use anyhow::Result;
use berth_integration_tests::{ctr, facts::lines, image::push};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::Stage,
};

with_a_daemon! {
    images_are_checked_tagged_labelled_and_removed,
    images_are_pushed,
    images_leave_and_come_back_as_archives,
}

/// A registry with an image that was fetched; the image's name there.
async fn fetched(stage: &Stage) -> Result<(DockerRegistry, String)> {
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"a")).layer(Layer::new().file("b", b"b")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    ctr::ok(stage, ["content", "fetch", "--plain-http", &reference])?;
    Ok((registry, reference))
}

/// What `images check` shows; it fails where it cannot ask a snapshotter.
fn check(stage: &Stage, args: &[&str]) -> Result<String> {
    Ok(ctr::run(stage, args)?.stdout)
}

fn names(stage: &Stage) -> Result<Vec<String>> {
    let mut names = lines(&ctr::ok(stage, ["images", "ls", "-q"])?);
    names.sort();
    Ok(names)
}

async fn images_are_checked_tagged_labelled_and_removed(stage: Stage) -> Result<()> {
    let (_registry, name) = fetched(&stage).await?;
    let checked = check(&stage, &["images", "check"])?;
    assert!(checked.contains("complete (3/3)"), "{checked}");
    ctr::ok(&stage, ["images", "tag", &name, "example.com/other:v2"])?;
    assert!(ctr::fails(&stage, ["images", "tag", &name, "example.com/other:v2"])?.contains("already exists"));
    ctr::ok(&stage, ["images", "tag", "--force", &name, "example.com/other:v2"])?;
    ctr::ok(&stage, ["images", "label", "example.com/other:v2", "team=a", "tier=b"])?;
    ctr::ok(&stage, ["images", "label", "example.com/other:v2", "tier="])?;
    let labels = ctr::ok(&stage, ["images", "label", "example.com/other:v2", "x=y"])?;
    assert!(["team=a,x=y", "x=y,team=a"].contains(&labels.trim()), "{labels}");
    ctr::ok(&stage, ["images", "label", "--replace-all", "example.com/other:v2", "only=this"])?;
    let listed = ctr::ok(&stage, ["images", "ls"])?;
    let other = listed.lines().find(|line| line.starts_with("example.com/other:v2")).unwrap_or_default();
    assert!(other.trim_end().ends_with("only=this") && other.contains("linux/"), "{listed}");
    assert_eq!(ctr::ok(&stage, ["images", "ls", "-q", "labels.only==this"])?.trim(), "example.com/other:v2");
    assert_eq!(ctr::ok(&stage, ["images", "ls", "-q", "name~=^example"])?.trim(), "example.com/other:v2");

    ctr::ok(&stage, ["images", "rm", &name])?;
    assert_eq!(names(&stage)?, ["example.com/other:v2"]);
    ctr::ok(&stage, ["images", "rm", "--sync", "example.com/other:v2"])?;
    assert_eq!(names(&stage)?, Vec::<String>::new());
    assert!(ctr::run(&stage, ["images", "rm", &name])?.stderr.contains("not found"));
    Ok(())
}

async fn images_are_pushed(stage: Stage) -> Result<()> {
    let (_from, name) = fetched(&stage).await?;
    let registry = DockerRegistry::start()?;
    let there = format!("{}/copy:v1", registry.host());
    ctr::ok(&stage, ["images", "push", "--plain-http", &there, &name])?;
    let manifest = |reference: &str| ctr::ok(&stage, ["content", "fetch-object", "--plain-http", reference]);
    assert_eq!(manifest(&there)?, manifest(&name)?);
    // All of it is there: another store fetches it whole.
    ctr::ok(&stage, ["-n", "fresh", "content", "fetch", "--plain-http", &there])?;
    let checked = check(&stage, &["-n", "fresh", "images", "check"])?;
    assert!(checked.contains("complete (3/3)"), "{checked}");
    Ok(())
}

async fn images_leave_and_come_back_as_archives(stage: Stage) -> Result<()> {
    let (_registry, name) = fetched(&stage).await?;
    let archive = stage.scratch().join("image.tar");
    let archive = archive.to_str().unwrap();
    ctr::ok(&stage, ["images", "export", archive, &name])?;
    let mut before = lines(&ctr::ok(&stage, ["content", "ls", "-q"])?);
    ctr::ok(&stage, ["-n", "other", "images", "import", "--no-unpack", archive])?;
    assert_eq!(lines(&ctr::ok(&stage, ["-n", "other", "images", "ls", "-q"])?), [name]);
    let mut after = lines(&ctr::ok(&stage, ["-n", "other", "content", "ls", "-q"])?);
    // The archive's own index comes in addition.
    before.sort();
    after.sort();
    assert!(before.iter().all(|digest| after.contains(digest)), "{before:?} {after:?}");
    let checked = check(&stage, &["-n", "other", "images", "check"])?;
    assert!(checked.contains("complete (3/3)"), "{checked}");
    Ok(())
}
