//! Berth under a real containerd, as its snapshotter, and as its content store too: containerd pulls, unpacks, runs and
//! collects, and Berth keeps what it needs for that. containerd mounts in a namespace of its own, so nothing of it is left on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use berth_integration_tests::image::{push, read_layout};
use berth_testing::{
    docker_registry::DockerRegistry,
    process::Server,
    running::Running,
    shape::{Shape, Stage},
    wait::wait_until,
};

use crate::differential::debian_image;

/// Debian's containerd, with Berth as a plugin.
struct Containerd {
    socket: PathBuf,
    server: Server,
}

impl Containerd {
    /// `content`: Berth keeps the blobs too, and containerd's own store is off.
    fn start(stage: &Stage, content: bool) -> Result<Self> {
        let dir = stage.scratch().join("containerd");
        fs::create_dir_all(&dir)?;
        let config = dir.join("config.toml");
        let (shown, berth) = (dir.display(), stage.socket().display().to_string());
        let (off, store) = if content {
            let store = format!("[proxy_plugins.berth-content]\n  type = \"content\"\n  address = \"{berth}\"\n");
            (", \"io.containerd.content.v1.content\"", store)
        } else {
            ("", String::new())
        };
        fs::write(
            &config,
            format!(
                r#"version = 2
root = "{shown}/root"
state = "{shown}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"{off}]
[grpc]
  address = "{shown}/c.sock"
[ttrpc]
  address = "{shown}/c.sock.ttrpc"
[proxy_plugins.berth]
  type = "snapshot"
  address = "{berth}"
[proxy_plugins.berth-native]
  type = "snapshot"
  address = "{berth}"
{store}"#
            ),
        )?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "containerd", "--config"]).arg(&config);
        let server = Server::start("containerd", &command, &dir.join("log"))?;
        let started = Self { socket: dir.join("c.sock"), server };
        let socket = started.socket.clone();
        let answers = || {
            let asked = Command::new("ctr").arg("--address").arg(&socket).args(["namespaces", "ls"]).output();
            asked.is_ok_and(|done| done.status.success())
        };
        wait_until("containerd to answer", Duration::from_secs(60), answers, || started.server.log());
        Ok(started)
    }

    fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(args);
        let done = Running::start(command)?.finish()?;
        ensure!(done.code == 0, "ctr {args:?}: exit code {}\n{}\n{}", done.code, done.stdout, done.stderr);
        Ok(done.stdout)
    }
}

/// The directories of all snapshots that Berth has.
fn directories(stage: &Stage, snapshotter: &str) -> Vec<PathBuf> {
    let all = stage.root().join("snapshots").join(snapshotter).join("snapshots");
    let Ok(entries) = fs::read_dir(all) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The files of all blobs that Berth has.
fn blobs(stage: &Stage) -> Vec<PathBuf> {
    let all = stage.root().join("content/blobs/sha256");
    let Ok(entries) = fs::read_dir(all) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The directory a container of this name writes to.
fn written_to(containerd: &Containerd, plugin: &str, name: &str) -> Result<PathBuf> {
    let mounts = containerd.ctr(&["snapshots", "--snapshotter", plugin, "mounts", "/at", name])?;
    let word = mounts.split_whitespace().find_map(|word| {
        let from = word.find("upperdir=").map(|at| at + "upperdir=".len());
        from.and_then(|from| word.get(from..)).and_then(|rest| rest.split(',').next())
    });
    let bound = || mounts.split_whitespace().find(|word| word.starts_with('/'));
    Ok(word.or_else(bound).context(mounts.clone())?.into())
}

async fn runs_a_container(plugin: &str, snapshotter: &str, content: bool) -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let registry = DockerRegistry::start()?;
    let image = read_layout(&debian_image()?)?;
    let manifest = image.manifest.digest.to_string();
    let reference = push(&image, &registry, "debian", "latest").await?;
    let containerd = Containerd::start(&stage, content)?;
    let of = ["--snapshotter", plugin];
    containerd.ctr(&[&["images", "pull", "--plain-http"][..], &of, &[&reference]].concat())?;
    let unpacked = directories(&stage, snapshotter).len();
    assert_eq!(unpacked, 3, "one for each layer");
    assert_eq!(blobs(&stage).len(), if content { 5 } else { 0 }, "manifest, config and layers");
    if content {
        // Another of containerd's namespaces gets the same blobs: containerd shares them by itself.
        containerd
            .ctr(&[&["--namespace", "other", "images", "pull", "--plain-http"][..], &of, &[&reference]].concat())?;
        assert_eq!(blobs(&stage).len(), 5);
        let listed = containerd.ctr(&["--namespace", "other", "content", "ls", "-q"])?;
        assert_eq!(listed.lines().count(), 5, "{listed}");
        let manifest = containerd.ctr(&["--namespace", "other", "content", "get", &manifest])?;
        assert!(manifest.contains("mediaType"), "{manifest}");
        containerd.ctr(&["--namespace", "other", "images", "rm", "--sync", &reference])?;
    }
    // Berth's own collector leaves alone what it knows nothing of.
    stage.ok(["gc"])?;

    let script = "set -e; echo hello > /written; rm /etc/os-release; grep -q root /etc/passwd; id -u";
    let run = [&["run"][..], &of, &[&reference, "one", "sh", "-c", script]].concat();
    assert_eq!(containerd.ctr(&run)?.trim(), "0");
    let upper = written_to(&containerd, plugin, "one")?;
    assert!(upper.starts_with(stage.root()), "{}", upper.display());
    assert_eq!(fs::read_to_string(upper.join("written"))?, "hello\n");
    assert_eq!(upper.join("usr").exists(), snapshotter == "native", "only what it wrote, unless all is copied");

    let snapshots = |args: &[&str]| containerd.ctr(&[&["snapshots"][..], &of, args].concat());
    snapshots(&["commit", "changed", "one"])?;
    snapshots(&["prepare", "again", "changed"])?;
    assert!(snapshots(&["info", "again"])?.contains("changed"));
    assert!(!snapshots(&["info", "changed"])?.contains("gc.root\": \"berth"), "what Berth needs is its own business");
    let mut diff = Command::new("ctr");
    diff.arg("--address").arg(&containerd.socket).arg("snapshots").args(of).args(["diff", "changed"]);
    let layer = diff.output()?;
    ensure!(layer.status.success(), "{layer:?}");
    let mut layer = tar::Archive::new(flate2::read::GzDecoder::new(&layer.stdout[..]));
    let names = layer.entries()?.map(|entry| Ok(entry?.path()?.display().to_string())).collect::<Result<Vec<_>>>()?;
    assert_eq!(names, ["etc/", "etc/.wh.os-release", "written"]);
    snapshots(&["rm", "again", "changed"])?;
    containerd.ctr(&["containers", "rm", "one"])?;

    let run = [&["run", "--rm"][..], &of, &[&reference, "two", "cat", "/etc/os-release"]].concat();
    assert!(containerd.ctr(&run)?.contains("Debian"), "the first container changed nothing for others");
    containerd.ctr(&["images", "rm", "--sync", &reference])?;
    let gone = || directories(&stage, snapshotter).is_empty();
    wait_until("containerd to collect and Berth to erase", Duration::from_secs(60), gone, || {
        format!("{:?}\n{}", directories(&stage, snapshotter), containerd.server.log())
    });
    assert!(snapshots(&["ls"])?.lines().count() <= 1);
    let gone = || blobs(&stage).is_empty();
    wait_until("the blobs to go", Duration::from_secs(60), gone, || {
        format!("{:?}\n{}", blobs(&stage), containerd.server.log())
    });
    Ok(())
}

fn may_run() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/usr/bin/containerd").exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_run_on_overlays() -> Result<()> {
    if may_run() { runs_a_container("berth", "overlayfs", false).await } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_run_on_copies() -> Result<()> {
    if may_run() { runs_a_container("berth-native", "native", false).await } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_run_on_our_content_too() -> Result<()> {
    if may_run() { runs_a_container("berth", "overlayfs", true).await } else { Ok(()) }
}
