//! Image records and mounted images.

use std::fs;

use anyhow::Result;
use berth_integration_tests::{
    facts::{Mounted, image_names, snapshots},
    image::push,
};
use berth_model::{Digest, Index, Platform};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer, index},
    shape::Stage,
};
use serde_json::{Value, json};

in_every_shape! {
    images_are_listed_inspected_and_removed,
    a_list_says_what_is_here_of_each_image,
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

/// Name, size and platforms of each line of the list, without its header.
fn listed(stage: &Stage) -> Result<Vec<[String; 3]>> {
    let table = stage.ok(["images", "ls"])?;
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = table.lines().skip(1).map(cells).collect();
    Ok(rows.into_iter().map(|row| [row[0].clone(), row[3].clone(), row[4].clone()]).collect())
}

async fn a_list_says_what_is_here_of_each_image(stage: Stage) -> Result<()> {
    const OTHER: &str = "linux/s390x";
    let registry = DockerRegistry::start()?;
    let host = Platform::host().to_string();
    let of = |platform: &str, what: &str| {
        let layer = Layer::new().file("what", what.as_bytes());
        ImageBuilder::new().platform(platform).layer(layer).build()
    };
    let (plain, broken, odd) = (of(&host, "plain"), of(&host, "broken"), of(&host, "odd"));
    let indexes = ["some", "all", "damaged"].map(|name| index(&[of(&host, name), of(OTHER, &format!("{name} there"))]));
    let everywhere = ["--platform", &host, "--platform", OTHER];
    let mut expected = Vec::new();
    for (name, image, platforms) in [
        ("a-plain", &plain, vec![]),
        ("b-again", &plain, vec![]),
        ("c-some", &indexes[0], vec![]),
        ("d-all", &indexes[1], everywhere.to_vec()),
        ("e-damaged", &indexes[2], everywhere.to_vec()),
        ("f-broken", &broken, vec![]),
        ("g-odd", &odd, vec![]),
    ] {
        let reference = push(image, &registry, name, "v1").await?;
        let args = ["pull", "--plain-http", "--no-unpack", &reference];
        stage.ok(args.into_iter().chain(platforms.iter().copied()))?;
        let size = stage.json(["images", "inspect", &reference])?["size"].as_f64().unwrap();
        let size = if size < 1024.0 { format!("{size} B") } else { format!("{:.2} KiB", size / 1024.0) };
        let platforms = if platforms.is_empty() { host.clone() } else { format!("{host},{OTHER}") };
        expected.push([reference, size, platforms]);
    }
    assert_eq!(listed(&stage)?, expected);

    // The bytes of one manifest are another's, a config is not recorded, a manifest's file is gone.
    let file = |digest: &Digest| stage.root().join("content/blobs/sha256").join(digest.hex());
    let damaged = Index::parse(indexes[2].target.digest, &indexes[2].blobs[&indexes[2].target.digest])?;
    let damaged = file(&damaged.manifests[1].digest);
    let length = fs::metadata(&damaged)?.len();
    fs::remove_file(&damaged)?;
    fs::write(&damaged, vec![b' '; usize::try_from(length)?])?;
    stage.ok(["content", "rm", &broken.config.digest.to_string()])?;
    fs::remove_file(file(&odd.target.digest))?;
    for row in &mut expected[4..] {
        row[1] = "incomplete".into();
        row[2] = "-".into();
    }
    assert_eq!(listed(&stage)?, expected);
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
