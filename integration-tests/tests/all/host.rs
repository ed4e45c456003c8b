//! Processes that share a machine: who holds a store, who may talk to a daemon, and what works without root.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use berth_integration_tests::{
    facts::{blobs, image_names},
    image::{digests, push},
};
use berth_testing::{
    docker_registry::DockerRegistry,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Image, ImageBuilder, Layer},
    running::{Finished, Running},
    shape::{Shape, Stage},
    wait::wait_until,
};

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65534;

fn image() -> Image {
    ImageBuilder::new().layer(Layer::new().file("a", b"x")).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_process_says_who_holds_the_store() -> Result<()> {
    let stage = Stage::start(Shape::Alone)?;
    let image = image();
    let silent = Faults::none().always("/blobs/", Fault::Silence);
    let registry = HostileRegistry::start(silent).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let first = stage.spawn(["pull", "--plain-http", &reference])?;
    wait_until(
        "the first pull to ask for a blob",
        Duration::from_secs(30),
        || !registry.seen_at("/blobs/").is_empty(),
        || first.output(),
    );
    let said = stage.fails(["pull", "--plain-http", &reference])?;
    assert!(said.contains(&first.pid().to_string()), "names the process {}: {said}", first.pid());
    assert!(said.contains(stage.root().to_str().unwrap()), "names the directory: {said}");
    drop(first);
    registry.behave();
    stage.ok(["pull", "--plain-http", &reference])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_says_who_holds_the_store() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    let holder = stage.server("daemon").pid().to_string();
    let mut second = stage.command(["serve"]);
    second.arg("--address").arg(stage.scratch().join("second.sock"));
    let second = Running::start(second)?.finish()?;
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains(&holder), "names the process {holder}: {}", second.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_for_root_and_its_group() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    let about = fs::metadata(stage.socket())?;
    assert_eq!(about.mode() & 0o777, 0o660);
    assert_eq!((about.uid(), about.gid()), (0, 0));
    let ended = stage.server("daemon").stop()?;
    assert!(ended.success(), "SIGTERM is an orderly end: {ended}");
    // Nobody answers now, and the command line does the work itself.
    assert_eq!(image_names(&stage)?, Vec::<String>::new());
    Ok(())
}

/// A daemon that was killed leaves its socket and its lock behind; neither is in anybody's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_daemon_leaves_is_in_nobodys_way() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    stage.kill("daemon");
    assert!(stage.socket().exists());
    assert_eq!(image_names(&stage)?, Vec::<String>::new());
    stage.serve("daemon", &[])?;
    stage.wait_until_ready();
    Ok(())
}

/// Runs a command of this stage as `nobody`, on a root of nobody's own.
fn as_nobody(stage: &Stage, args: &[&str]) -> Result<Finished> {
    let root = stage.scratch().join("nobodys");
    fs::create_dir_all(&root)?;
    fs::set_permissions(stage.scratch(), fs::Permissions::from_mode(0o755))?;
    chown(&root, Some(NOBODY), Some(NOBODY))?;
    // The program may lie in a directory that only root may enter.
    let program = stage.scratch().join("berth");
    if !program.exists() {
        fs::copy(berth_testing::berth::binary(), &program).context("copy the program")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--"])
        .arg(program)
        .arg("--root")
        .arg(&root)
        .arg("--address")
        .arg(root.join("berth.sock"))
        .args(args)
        .env("HOME", &root);
    Running::start(command)?.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_works_without_root() -> Result<()> {
    let stage = Stage::start(Shape::Alone)?;
    let registry = DockerRegistry::start()?;
    let image = image();
    let reference = push(&image, &registry, "app", "v1").await?;
    let pulled = as_nobody(&stage, &["pull", "--plain-http", "--no-unpack", &reference])?;
    assert_eq!(pulled.code, 0, "{pulled:?}");
    let listed = as_nobody(&stage, &["content", "ls", "--quiet"])?;
    let mut found: Vec<_> = listed.stdout.lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, digests(&image));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_root_says_so_before_the_first_byte() -> Result<()> {
    let stage = Stage::start(Shape::Alone)?;
    let registry = DockerRegistry::start()?;
    let reference = push(&image(), &registry, "app", "v1").await?;
    let pulled = as_nobody(&stage, &["pull", "--plain-http", &reference])?;
    assert!(pulled.code > 0 && pulled.code != 101, "{pulled:?}");
    assert!(pulled.stderr.contains("root"), "{}", pulled.stderr);
    assert!(pulled.stderr.contains("--no-unpack"), "names the remedy: {}", pulled.stderr);
    assert_eq!(registry.requests("\"GET /v2/app/"), 0, "{}", registry.log());
    Ok(())
}

/// Equal pulls at the same time are one: each byte is fetched once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_pulls_share_their_flight() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let image = ImageBuilder::new().layer(Layer::new().random_file("a", 4 << 20, 1)).build();
    let slowly = Fault::Trickle(64 << 10, Duration::from_millis(5));
    let registry = HostileRegistry::start(Faults::none().always("/blobs/", slowly)).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let pulls = (0..3).map(|_| stage.spawn(["pull", "--plain-http", &reference]));
    for pull in pulls.collect::<Result<Vec<_>>>()? {
        let finished = pull.finish()?;
        assert_eq!(finished.code, 0, "{finished:?}");
    }
    let path = format!("/blobs/{}", image.layers[0].digest);
    assert_eq!(registry.seen_at(&path).len(), 1, "{:?}", registry.seen_at(&path));
    assert_eq!(blobs(&stage)?, digests(&image));
    Ok(())
}
