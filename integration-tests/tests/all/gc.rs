//! Collection as people see it: what nothing uses goes, what anything uses stays, and each can say why.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use berth_integration_tests::{
    facts::{Mounted, blobs, events, lines, snapshots},
    image::{digests, push},
};
use berth_testing::{
    docker_registry::DockerRegistry,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer},
    shape::{Shape, Stage},
    wait::wait_until,
};
use serde_json::{Value, json};

in_every_shape! {
    what_no_image_uses_goes,
    a_dry_run_tells_and_changes_nothing,
    everything_kept_says_why,
    bytes_of_two_namespaces_go_with_the_last,
    sizes_add_up,
    directories_without_a_record_go,
}

/// Files on the disk that are blobs.
pub(crate) fn blob_files(root: &Path) -> BTreeSet<String> {
    names(&root.join("content/blobs/sha256")).into_iter().map(|name| format!("sha256:{name}")).collect()
}

/// Directories of snapshots.
pub(crate) fn directories(root: &Path) -> BTreeSet<String> {
    names(&root.join("snapshots/overlayfs/snapshots"))
}

fn names(dir: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The objects a run printed, and its sums.
fn run(stage: &Stage, args: &[&str]) -> Result<(Vec<Value>, Value)> {
    let all = [args, &["--json"]].concat();
    let mut objects: Vec<Value> =
        lines(&stage.ok(&all)?).iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    let summary = objects.pop().unwrap()["summary"].clone();
    Ok((objects, summary))
}

/// Two images that share their lowest layer.
fn two() -> (Image, Image) {
    let base = || ImageBuilder::new().layer(Layer::new().dir("etc").random_file("etc/base", 200_000, 1));
    let one = base().layer(Layer::new().random_file("one", 100_000, 2)).build();
    let two = base().layer(Layer::new().random_file("two", 100_000, 3)).build();
    (one, two)
}

async fn what_no_image_uses_goes(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (one, two) = two();
    let names = [push(&one, &registry, "one", "v1").await?, push(&two, &registry, "two", "v1").await?];
    for name in &names {
        stage.ok(["pull", "--plain-http", name])?;
    }
    assert_eq!(directories(stage.root()).len(), 3);
    stage.ok(["images", "rm", "--sync", &names[0]])?;
    assert_eq!(blobs(&stage)?, digests(&two), "what the other image needs stays, and no more");
    assert_eq!(blob_files(stage.root()), digests(&two).into_iter().collect());
    assert_eq!(directories(stage.root()).len(), 2);
    assert_eq!(snapshots(&stage)?.len(), 2);
    {
        let mounted = Mounted::new(&stage, &names[1], &[])?;
        assert_eq!(fs::metadata(mounted.path().join("etc/base"))?.len(), 200_000);
        // A writable mount is a snapshot in use: its layers stay even when the image goes.
        let other = stage.scratch().join("rw");
        fs::create_dir(&other)?;
        let shown = other.to_str().unwrap();
        stage.ok(["images", "mount", "--rw", &names[1], shown])?;
        stage.ok(["images", "rm", "--sync", &names[1]])?;
        assert_eq!(directories(stage.root()).len(), 4, "two layers, a mount and a view");
        assert_eq!(fs::metadata(other.join("two"))?.len(), 100_000);
        stage.ok(["images", "unmount", "--rm", shown])?;
    }
    stage.ok(["gc"])?;
    assert!(blob_files(stage.root()).is_empty() && directories(stage.root()).is_empty());
    let all = events(&stage)?;
    let of = |topic: &str| all.iter().filter(|event| event["topic"] == topic).count();
    assert_eq!(of("/content/delete"), 7, "an event for each deletion: {all:?}");
    assert_eq!(of("/snapshot/remove"), 3 + 2, "layers, the mount and the view");
    let said = stage.ok(["gc"])?;
    assert!(said.contains("nothing to collect"), "{said}");
    Ok(())
}

async fn a_dry_run_tells_and_changes_nothing(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (one, _) = two();
    let name = push(&one, &registry, "one", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    let (found, sums) = run(&stage, &["gc", "--dry-run"])?;
    assert_eq!((found.len(), &sums["freedBytes"]), (0, &json!(0)), "all of it is in use: {found:?}");
    // A lease keeps it from the collection that follows the removal, and its end is what this run is about.
    let lease = stage.ok(["leases", "create"])?;
    let target = format!("content/{}", one.target.digest);
    stage.ok(["leases", "resources", lease.trim(), "--add", &target])?;
    stage.ok(["images", "rm", "--sync", &name])?;
    let before = (blob_files(stage.root()), directories(stage.root()));
    assert_eq!((before.0.len(), before.1.len()), (4, 2));
    stage.ok(["leases", "resources", lease.trim(), "--remove", &target])?;
    if stage.shape() == Shape::Alone {
        let (found, sums) = run(&stage, &["gc", "--dry-run"])?;
        let ids: BTreeSet<&str> = found.iter().filter_map(|item| item["id"].as_str()).collect();
        for digest in digests(&one) {
            assert!(ids.contains(digest.as_str()), "{digest} in {found:?}");
        }
        assert!(found.iter().all(|item| item["outcome"] == "would-remove"), "{found:?}");
        assert_eq!((&sums["blobs"]["count"], &sums["directories"]["count"]), (&json!(4), &json!(2)), "{sums}");
        assert_eq!((blob_files(stage.root()), directories(stage.root())), before, "nothing went");
        let (removed, freed) = run(&stage, &["content", "gc"])?;
        assert_eq!(freed["blobs"], sums["blobs"], "{removed:?}");
    }
    stage.ok(["gc"])?;
    assert!(blob_files(stage.root()).is_empty());
    Ok(())
}

async fn everything_kept_says_why(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (one, _) = two();
    let name = push(&one, &registry, "one", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    let chain = |subject: &str| -> Result<Vec<String>> {
        let why = stage.json(["gc", "why", "--json", subject])?;
        assert_eq!((&why["exists"], &why["kept"]), (&json!(true), &json!(true)), "{why}");
        let link = |link: &Value| format!("{}/{}", link["type"].as_str().unwrap(), link["id"].as_str().unwrap());
        Ok(why["chain"].as_array().unwrap().iter().map(link).collect())
    };
    let image = format!("images/{name}");
    let manifest = format!("content/{}", one.target.digest);
    let layer = format!("content/{}", one.layers[0].digest);
    assert_eq!(chain(&name)?.join(" "), image);
    assert_eq!(chain(&one.layers[0].digest.to_string())?, [image.clone(), manifest.clone(), layer]);
    for snapshot in snapshots(&stage)? {
        let links = chain(&snapshot)?;
        let config = format!("content/{}", one.config.digest);
        assert_eq!(links[..3], [image.clone(), manifest.clone(), config], "{links:?}");
        assert_eq!(links.last().unwrap(), &format!("snapshots/overlayfs/{snapshot}"));
    }
    let said = stage.ok(["gc", "why", &one.layers[1].digest.to_string()])?;
    assert!(said.contains("it is an image") && said.contains("containerd.io/gc.ref.content"), "{said}");
    let unknown = format!("sha256:{}", "0".repeat(64));
    assert!(stage.fails(["gc", "why", &unknown])?.contains(&unknown));
    assert!(stage.fails(["gc", "why", "no/such:image"])?.contains("no/such:image"));
    Ok(())
}

async fn bytes_of_two_namespaces_go_with_the_last(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (one, _) = two();
    let name = push(&one, &registry, "one", "v1").await?;
    for namespace in ["a", "b"] {
        stage.ok(["--namespace", namespace, "pull", "--plain-http", &name])?;
    }
    assert_eq!((blob_files(stage.root()).len(), directories(stage.root()).len()), (4, 4), "bytes are shared");
    let why = stage.json(["-n", "a", "gc", "why", "--json", &one.layers[0].digest.to_string()])?;
    assert_eq!(why["alsoIn"], json!(["b"]));
    stage.ok(["-n", "a", "images", "rm", "--sync", &name])?;
    assert_eq!((blob_files(stage.root()).len(), directories(stage.root()).len()), (4, 2));
    assert_eq!(stage.ok(["-n", "a", "content", "ls", "-q"])?, "", "the records of one namespace went");
    stage.ok(["-n", "b", "images", "rm", "--sync", &name])?;
    assert!(blob_files(stage.root()).is_empty() && directories(stage.root()).is_empty());
    Ok(())
}

fn du(path: &Path) -> Result<u64> {
    let out = std::process::Command::new("du").args(["-s", "-B1"]).arg(path).output()?;
    Ok(String::from_utf8(out.stdout)?.split('\t').next().unwrap_or_default().parse()?)
}

async fn sizes_add_up(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (one, two) = two();
    for (image, name) in [(&one, "one"), (&two, "two")] {
        stage.ok(["pull", "--plain-http", &push(image, &registry, name, "v1").await?])?;
    }
    let df = stage.json(["system", "df", "--json"])?;
    let root = stage.root();
    let of = |what: &str| df["disk"][what]["bytes"].as_u64().unwrap();
    // What we count beside the things themselves is the directory that holds them.
    let holder = |path: &Path| Ok::<_, anyhow::Error>(fs::metadata(path).map(|_| 0).unwrap_or(0) + own(path)?);
    let blobs = root.join("content/blobs/sha256");
    assert_eq!(of("content"), du(&blobs)? - holder(&blobs)?);
    let dirs = root.join("snapshots/overlayfs/snapshots");
    assert_eq!(of("snapshots"), du(&dirs)? - holder(&dirs)?);
    assert_eq!(
        df["totalBytes"].as_u64().unwrap(),
        of("content") + of("snapshots") + of("ingests") + of("databases-and-others")
    );
    assert_eq!(df["reclaimableBytes"], json!(0));
    let images = df["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for image in images {
        assert_eq!(image["contentSharedBytes"].as_u64(), Some(one.layers[0].size), "{image}");
        assert!(image["snapshotsSharedBytes"].as_u64() > Some(200_000), "{image}");
        assert!(image["contentUniqueBytes"].as_u64() > Some(100_000), "{image}");
    }
    let shown = stage.ok(["system", "df", "-v"])?;
    assert!(shown.contains("2 images use") && shown.contains("one:v1"), "{shown}");
    Ok(())
}

/// What a directory takes without what is in it.
fn own(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.blocks() * 512)
}

async fn directories_without_a_record_go(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (one, _) = two();
    let name = push(&one, &registry, "one", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    let dirs = stage.root().join("snapshots/overlayfs/snapshots");
    let kept = directories(stage.root());
    for stranger in ["99999/fs/a/b", "rm-7/fs"] {
        fs::create_dir_all(dirs.join(stranger))?;
    }
    fs::write(dirs.join("99999/fs/a/file"), vec![1; 50_000])?;
    fs::write(dirs.join("not-ours"), b"x")?;
    // A daemon collects by itself too: what it took is not in the lists.
    let alone = stage.shape() == Shape::Alone;
    let (found, sums) = run(&stage, &["gc", "--dry-run"])?;
    if alone {
        assert_eq!(sums["directories"]["count"], json!(2), "{found:?}");
        assert!(sums["freedBytes"].as_u64() > Some(50_000), "{sums}");
    }
    let (removed, _) = run(&stage, &["gc"])?;
    let ids: BTreeSet<&str> = removed.iter().filter_map(|item| item["id"].as_str()).collect();
    assert!(!alone || ids == BTreeSet::from(["99999", "rm-7"]), "{ids:?}");
    let mut left = directories(stage.root());
    assert!(left.remove("not-ours"), "what Berth did not make it does not touch");
    assert_eq!(left, kept);
    Ok(())
}

/// The records are the only ones who know what is in use: without them, or with others, nothing is garbage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_lost_records_are_not_garbage() -> Result<()> {
    let stage = Stage::start(Shape::Alone)?;
    let registry = DockerRegistry::start()?;
    let (one, _) = two();
    let name = push(&one, &registry, "one", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    // One blob of its own, so that a collection has deleted something and the data know whose they are.
    stage.ok(["pull", "--plain-http", "--no-unpack", &push(&two().1, &registry, "two", "v1").await?])?;
    stage.ok(["images", "rm", "--sync", &name.replace("one", "two")])?;
    let before = (blob_files(stage.root()), directories(stage.root()));
    fs::rename(stage.root().join("metadata"), stage.scratch().join("lost"))?;
    let said = stage.fails(["gc"])?;
    assert!(said.contains("belongs to the records"), "{said}");
    assert_eq!((blob_files(stage.root()), directories(stage.root())), before);
    fs::remove_dir_all(stage.root().join("metadata"))?;
    fs::rename(stage.scratch().join("lost"), stage.root().join("metadata"))?;
    stage.ok(["gc"])?;
    Mounted::new(&stage, &name, &[])?;
    Ok(())
}

/// A daemon collects by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_needs_no_command() -> Result<()> {
    for shape in [Shape::Daemon, Shape::Nats] {
        let stage = Stage::start(shape)?;
        let registry = DockerRegistry::start()?;
        let (one, _) = two();
        let name = push(&one, &registry, "one", "v1").await?;
        stage.ok(["pull", "--plain-http", &name])?;
        stage.ok(["images", "rm", &name])?;
        wait_until(
            "the blobs and directories to go",
            Duration::from_secs(60),
            || blob_files(stage.root()).is_empty() && directories(stage.root()).is_empty(),
            || (blob_files(stage.root()), directories(stage.root())),
        );
    }
    Ok(())
}

/// What a failed pull fetched stays for the next try; once its lease is over, and it is old, it goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_pull_left_stays_for_a_while() -> Result<()> {
    let stage = Stage::start(Shape::Alone)?;
    let image = ImageBuilder::new()
        .layer(Layer::new().file("small", b"x"))
        .layer_as(Compression::None, Layer::new().random_file("big", 3 << 20, 1))
        .build();
    let path = format!("/blobs/{}", image.layers[1].digest);
    let registry = HostileRegistry::start(
        Faults::none().once(&path, Fault::CloseAfter(1 << 20)).always(&path, Fault::Status(404, String::new())),
    )
    .await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    stage.fails(["pull", "--plain-http", &reference])?;
    let ingests = || Ok::<_, anyhow::Error>(lines(&stage.ok(["content", "active", "-q"])?).len());
    assert_eq!(ingests()?, 1);
    let config = stage.scratch().join("config.toml");
    fs::write(&config, "[gc]\ningest_age = \"0s\"\n")?;
    let gc = ["--config", config.to_str().unwrap(), "gc"];
    stage.ok(gc)?;
    assert_eq!((ingests()?, blob_files(stage.root()).len()), (1, 3), "kept for the next try");
    let leases = lines(&stage.ok(["leases", "ls", "-q"])?);
    assert_eq!(leases.len(), 1);
    stage.ok(["leases", "rm", &leases[0]])?;
    assert!(blob_files(stage.root()).is_empty(), "the rest went with the lease");
    assert_eq!(ingests()?, 1, "it is young");
    stage.ok(gc)?;
    assert_eq!(ingests()?, 0);
    Ok(())
}

/// A collector that dies in the middle is gone at once: the next one does not wait until its round would end by silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_round_of_a_dead_collector_is_taken_over_soon() -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let name = push(&image, &registry, "one", "v1").await?;
    stage.ok(["pull", "--plain-http", &name])?;
    // It gets as far as the directories, which nobody removes for it.
    for unpacker in ["unpacker-1", "unpacker-2"] {
        stage.kill(unpacker);
    }
    stage.ok(["images", "rm", &name])?;
    let waiting = stage.spawn(["gc"])?;
    let is_under_way = || blob_files(stage.root()).is_empty();
    wait_until("a round", Duration::from_secs(60), is_under_way, || blob_files(stage.root()));
    stage.kill("gc");
    drop(waiting);
    for service in ["unpacker-1", "gc"] {
        stage.start_service(service)?;
    }
    let begun = Instant::now();
    stage.ok(["gc"])?;
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for a dead one: {:?}", begun.elapsed());
    assert!(directories(stage.root()).is_empty(), "what the dead one left is collected");
    Ok(())
}
