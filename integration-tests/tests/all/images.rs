//! Image records and mounted images.

use std::fs;

use anyhow::Result;
use berth_integration_tests::{
    facts::{Mounted, image_names, snapshots},
    image::push,
};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    shape::Stage,
};
use serde_json::{Value, json};

in_every_shape! {
    images_are_listed_inspected_and_removed,
    a_mount_is_read_only_unless_asked,
    what_is_not_there_is_named,
}

fn image() -> ImageBuilder {
    ImageBuilder::new().layer(Layer::new().dir("etc").file("etc/motd", b"hello"))
}

async fn images_are_listed_inspected_and_removed(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = image().build();
    let one = push(&image, &registry, "app", "one").await?;
    let two = push(&image, &registry, "app", "two").await?;
    stage.ok(["pull", "--plain-http", &one])?;
    stage.ok(["pull", "--plain-http", &two])?;
    assert_eq!(image_names(&stage)?, [one.clone(), two.clone()]);

    let table = stage.ok(["i", "ls"])?;
    assert!(table.contains(&one) && table.contains(&image.target.digest.to_string()[..19]), "{table}");
    let listed = stage.ok(["images", "ls", "--json"])?;
    let names: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, [json!(one), json!(two)]);

    let about = stage.json(["images", "inspect", &one])?;
    let text = about.to_string();
    for fact in [one.as_str(), &image.target.digest.to_string(), &image.config.digest.to_string()] {
        assert!(text.contains(fact), "{fact} in {about:#}");
    }
    stage.ok(["images", "rm", &one])?;
    assert_eq!(image_names(&stage)?, [two]);
    Ok(())
}

async fn a_mount_is_read_only_unless_asked(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let reference = push(&image().build(), &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let before = snapshots(&stage)?;
    {
        let mounted = Mounted::new(&stage, &reference, &[])?;
        assert_eq!(fs::read(mounted.path().join("etc/motd"))?, b"hello");
        let refused = fs::write(mounted.path().join("etc/motd"), b"x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }
    {
        let mounted = Mounted::new(&stage, &reference, &["--rw"])?;
        fs::write(mounted.path().join("etc/motd"), b"changed")?;
        fs::remove_file(mounted.path().join("etc/motd"))?;
    }
    let mounted = Mounted::new(&stage, &reference, &[])?;
    assert_eq!(fs::read(mounted.path().join("etc/motd"))?, b"hello", "the image is what it was");
    drop(mounted);
    assert_eq!(snapshots(&stage)?, before, "a mount leaves nothing behind");
    Ok(())
}

async fn what_is_not_there_is_named(stage: Stage) -> Result<()> {
    let directory = stage.scratch().join("mnt");
    fs::create_dir(&directory)?;
    let shown = directory.to_str().unwrap();
    let nothing = "127.0.0.1:1/none:v1";
    for args in
        [vec!["images", "inspect", nothing], vec!["images", "mount", nothing, shown], vec!["images", "rm", nothing]]
    {
        let said = stage.fails(&args)?;
        assert!(said.contains(nothing), "{args:?}: {said}");
    }
    let said = stage.fails(["images", "unmount", shown])?;
    assert!(said.contains(shown), "{said}");
    assert_eq!(stage.ok(["images", "ls", "--json"])?, "");
    Ok(())
}
