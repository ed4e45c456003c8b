//! `ctr content`.

use std::{fs, time::Duration};

use anyhow::Result;
use berth_integration_tests::{
    ctr,
    facts::{image_names, lines},
    image::{digests, push},
};
use berth_model::Digest;
use berth_testing::{
    docker_registry::DockerRegistry,
    hostile::{Fault, Faults, HostileRegistry},
    image::{ImageBuilder, Layer, random_bytes},
    running::Running,
    shape::Stage,
    wait::wait_until,
};

with_a_daemon! {
    what_is_written_is_read_edited_and_removed,
    wrong_bytes_are_refused,
    an_image_is_fetched_and_its_objects_are,
    what_is_being_written_is_shown,
}

async fn what_is_written_is_read_edited_and_removed(stage: Stage) -> Result<()> {
    // Larger than a frame of a client (8 MiB) and than what gRPC takes if nothing is said (4 MiB).
    let bytes = random_bytes(20 << 20, 7);
    let digest = Digest::of(&bytes).to_string();
    let file = stage.scratch().join("blob");
    fs::write(&file, &bytes)?;
    let size = bytes.len().to_string();
    let args = ["content", "ingest", "--expected-size", &size, "--expected-digest", &digest, "big"];
    ctr::ok_with_input(&stage, args, &file)?;
    assert_eq!(lines(&ctr::ok(&stage, ["content", "ls", "-q"])?).join(" "), digest);
    let read = ctr::command(&stage, ["content", "get", &digest]).output()?;
    assert_eq!(Digest::of(&read.stdout).to_string(), digest, "byte for byte");
    // The same once more is no mistake.
    ctr::ok_with_input(&stage, args, &file)?;

    ctr::ok(&stage, ["content", "label", &digest, "a=1", "b=2"])?;
    ctr::ok(&stage, ["content", "label", &digest, "a=", "c=3"])?;
    let listed = ctr::ok(&stage, ["content", "ls"])?;
    assert!(listed.contains("20.97MB") && !listed.contains("a="), "{listed}");
    assert!(listed.contains("b=2") && listed.contains("c=3"), "{listed}");
    assert_eq!(ctr::ok(&stage, ["content", "ls", "-q", "labels.b==3"])?.trim(), "");
    assert_eq!(ctr::ok(&stage, ["content", "ls", "-q", "labels.b==2"])?.trim(), digest);

    let text = stage.scratch().join("text");
    fs::write(&text, b"{\"a\":1}")?;
    ctr::ok_with_input(&stage, ["content", "ingest", "text"], &text)?;
    let before = Digest::of(b"{\"a\":1}").to_string();
    let edited = ctr::ok(&stage, ["content", "edit", "--editor", "printf edited >", &before])?;
    assert_eq!(edited.trim(), Digest::of(b"edited").to_string());
    assert_eq!(ctr::ok(&stage, ["content", "get", edited.trim()])?, "edited");

    // What nothing refers to goes with the next collection, which a removal brings about.
    ctr::ok(&stage, ["content", "label", edited.trim(), "containerd.io/gc.root=1"])?;
    ctr::ok(&stage, ["content", "rm", &digest, &before])?;
    assert_eq!(lines(&ctr::ok(&stage, ["content", "ls", "-q"])?), [edited.trim()]);
    assert!(ctr::fails(&stage, ["content", "get", &digest])?.contains("not found"));
    assert_eq!(crate::store::blob_files(stage.root())?.len(), 1);
    Ok(())
}

async fn wrong_bytes_are_refused(stage: Stage) -> Result<()> {
    let file = stage.scratch().join("blob");
    fs::write(&file, b"abc")?;
    let other = Digest::of(b"other").to_string();
    let mut command = ctr::command(&stage, ["content", "ingest", "--expected-digest", &other, "x"]);
    command.stdin(fs::File::open(&file)?);
    let done = Running::start(command)?.finish()?;
    assert!(done.code != 0 && done.stderr.contains("unexpected commit digest"), "{done:?}");
    assert_eq!(ctr::ok(&stage, ["content", "ls", "-q"])?.trim(), "");
    // What was wrong is in nobody's way.
    let right = Digest::of(b"abc").to_string();
    ctr::ok_with_input(&stage, ["content", "ingest", "--expected-digest", &right, "x"], &file)?;
    assert_eq!(ctr::ok(&stage, ["content", "ls", "-q"])?.trim(), right);
    Ok(())
}

async fn an_image_is_fetched_and_its_objects_are(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new()
        .layer(Layer::new().random_file("a", 3 << 20, 1))
        .layer(Layer::new().file("b", b"b"))
        .build();
    let reference = push(&image, &registry, "app", "v1").await?;
    ctr::ok(&stage, ["content", "fetch", "--plain-http", &reference])?;
    let mut found = lines(&ctr::ok(&stage, ["content", "ls", "-q"])?);
    found.sort();
    assert_eq!(found, digests(&image));
    assert_eq!(image_names(&stage)?.join(" "), reference, "and Berth's own command line sees the same");
    assert_eq!(ctr::ok(&stage, ["leases", "ls", "-q"])?.trim(), "", "the fetch's lease ended");

    let object = ctr::ok(&stage, ["content", "fetch-object", "--plain-http", &reference])?;
    assert_eq!(Digest::of(object.trim_end().as_bytes()), image.manifest.digest);
    assert_eq!(image_names(&stage)?, [reference]);
    Ok(())
}

async fn what_is_being_written_is_shown(stage: Stage) -> Result<()> {
    let image = ImageBuilder::new().layer(Layer::new().random_file("a", 4 << 20, 1)).build();
    let slowly = Faults::none().always("/blobs/", Fault::Trickle(16 << 10, Duration::from_millis(10)));
    let registry = HostileRegistry::start(slowly).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let mut fetch = Running::start(ctr::command(&stage, ["content", "fetch", "--plain-http", &reference]))?;
    let layer = format!("layer-{}", image.layers[0].digest);
    let active = |namespace: &str| ctr::ok(&stage, ["-n", namespace, "content", "active"]).unwrap();
    wait_until(
        "the layer to arrive",
        Duration::from_secs(60),
        || active("default").contains(&layer),
        || active("default"),
    );
    assert!(!active("other").contains(&layer), "each namespace has its own");
    assert!(!fetch.has_ended());
    drop(fetch);
    // What a killed client leaves is there for its next try, which goes on where it stopped.
    assert!(active("default").contains(&layer));
    registry.behave();
    let again = registry.seen_at(&format!("/blobs/{}", image.layers[0].digest)).len();
    ctr::ok(&stage, ["content", "fetch", "--plain-http", &reference])?;
    assert!(!active("default").contains(&layer));
    assert!(registry.seen_at(&format!("/blobs/{}", image.layers[0].digest)).len() > again);
    assert_eq!(lines(&ctr::ok(&stage, ["content", "ls", "-q"])?).len(), image.blobs.len());
    Ok(())
}
