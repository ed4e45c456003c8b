//! Who pulls: Berth, and the peers that are installed; each with empty stores of its own, nothing of the machine's.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use berth_testing::{
    process::Server,
    wait::{Seen, wait_for},
};

use crate::{
    daemons,
    measure::{self, Sample},
    sink,
};

/// A program that pulls and unpacks.
pub(crate) struct Peer {
    name: String,
    kind: Kind,
    cpus: Option<String>,
    /// Whether the registry speaks TLS, with a certificate that nobody knows; else plain HTTP.
    tls: bool,
    telemetry: Telemetry,
}

/// What Berth tells of itself meanwhile.
#[derive(Clone, Debug)]
enum Telemetry {
    /// What it does by itself, or what the environment says.
    Usual,
    /// Nothing, not even numbers.
    Quiet,
    /// All spans and all numbers, to this receiver.
    Told(String),
}

pub(crate) enum Kind {
    /// The program, all services in its own process.
    Berth(PathBuf),
    /// The program as a daemon that is started for this pull; its start is not counted.
    Daemon(PathBuf),
    /// The same as a process for each service, around a nats-server.
    Nats(PathBuf),
    /// `ctr` and a daemon that is started for this pull; its start is not counted.
    Containerd,
    Podman,
    /// `skopeo` downloads, `umoci` unpacks.
    Umoci,
}

/// Those of the peers that are there.
pub(crate) fn find(wanted: &[String], berth: &[PathBuf], cpus: Option<&str>, tls: bool) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    let mut add = |name: String, kind, telemetry: &Telemetry| {
        peers.push(Peer { name, kind, cpus: cpus.map(ToOwned::to_owned), tls, telemetry: telemetry.clone() });
    };
    for name in wanted {
        let (shape, telemetry) = match name.rsplit_once('-').unwrap_or(("berth", name)) {
            (shape, "told") => (shape, Telemetry::Told(sink::start()?)),
            (shape, "quiet") => (shape, Telemetry::Quiet),
            _ => (name.as_str(), Telemetry::Usual),
        };
        let (kinds, programs): (Vec<Kind>, &[&str]) = match shape {
            "berth" => (each(berth, Kind::Berth)?, &[]),
            "daemon" => (each(berth, Kind::Daemon)?, &[]),
            "nats" => (each(berth, Kind::Nats)?, &["nats-server"]),
            "containerd" => (vec![Kind::Containerd], &["ctr", "containerd"]),
            "podman" => (vec![Kind::Podman], &["podman"]),
            "umoci" => (vec![Kind::Umoci], &["skopeo", "umoci"]),
            other => bail!("unknown peer {other:?}; there are berth, daemon, nats, containerd, podman, umoci"),
        };
        if let Some(missing) = programs.iter().find(|program| !is_there(program)) {
            eprintln!("{name} is left out: {missing} is not installed");
            continue;
        }
        for (number, kind) in kinds.into_iter().enumerate() {
            add(if number == 0 { name.clone() } else { format!("{name}-{}", number + 1) }, kind, &telemetry);
        }
    }
    ensure!(!peers.is_empty(), "none of these peers is installed: {}", wanted.join(", "));
    Ok(peers)
}

/// A directory that tells `ctr` of an image's registry: with `--skip-verify` it speaks plain HTTP to the loopback all the same.
fn hosts(image: &str, store: &Path) -> Result<PathBuf> {
    let (host, _) = image.split_once('/').context("a reference begins with its registry")?;
    let (hosts, text) = (store.join("hosts"), format!("[host.\"https://{host}\"]\n  skip_verify = true\n"));
    std::fs::create_dir_all(hosts.join(host))?;
    std::fs::write(hosts.join(host).join("hosts.toml"), text)?;
    Ok(hosts)
}

/// Each of several Berths, in the same shape.
fn each(berth: &[PathBuf], shape: fn(PathBuf) -> Kind) -> Result<Vec<Kind>> {
    berth
        .iter()
        .map(|path| Ok(shape(path.canonicalize().with_context(|| format!("find {}", path.display()))?)))
        .collect()
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl Peer {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is Berth, in some shape.
    pub(crate) fn is_berth(&self) -> bool {
        matches!(self.kind, Kind::Berth(_) | Kind::Daemon(_) | Kind::Nats(_))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Pulls an image into stores below an empty directory.
    pub(crate) fn pull(&self, image: &str, store: &Path) -> Result<Sample> {
        // On the loopback Berth takes any certificate.
        let berth: &[&str] = if self.tls { &["pull", image] } else { &["pull", "--plain-http", image] };
        match &self.kind {
            Kind::Berth(program) => {
                let mut command = self.command(program);
                command.arg("--root").arg(store.join("root")).arg("--address").arg(store.join("none.sock"));
                measure::run(command.args(berth), &[], store)
            }
            Kind::Daemon(program) => daemons::pull(|| self.command(program), false, berth, store),
            Kind::Nats(program) => daemons::pull(|| self.command(program), true, berth, store),
            Kind::Containerd => self.containerd(image, store),
            Kind::Podman => {
                let mut command = self.command(Path::new("podman"));
                command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
                command.args(["--storage-driver", "overlay", "pull", "--quiet", "--tls-verify=false", image]);
                let done = measure::run(&mut command, &[], store);
                // It leaves its storage mounted on itself.
                let _not_mounted = nix::mount::umount(&store.join("root/overlay"));
                done
            }
            Kind::Umoci => {
                let layout = format!("{}:latest", store.join("oci").display());
                let mut copy = self.command(Path::new("skopeo"));
                copy.args(["copy", "--quiet", "--src-tls-verify=false"])
                    .args([format!("docker://{image}"), format!("oci:{layout}")]);
                let mut unpack = self.command(Path::new("umoci"));
                unpack.args(["unpack", "--image", &layout]).arg(store.join("bundle"));
                Ok(measure::run(&mut copy, &[], store)?.and(&measure::run(&mut unpack, &[], store)?))
            }
        }
    }

    /// Whether what its pulls were like can be drawn when they are over.
    pub(crate) fn draws(&self) -> bool {
        matches!(self.kind, Kind::Berth(_))
    }

    /// Draws what a pull into this store was like, if that can be.
    pub(crate) fn draw(&self, image: &str, store: &Path, path: &Path) -> Result<()> {
        let Kind::Berth(program) = &self.kind else { return Ok(()) };
        let mut command = Command::new(program);
        command.arg("--root").arg(store.join("root")).arg("--address").arg(store.join("none.sock"));
        let drawn = command.args(["pulls", "explain", image, "--svg"]).arg(path).output()?;
        ensure!(drawn.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&drawn.stderr));
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = match &self.cpus {
            None => Command::new(program),
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.arg("--cpu-list").arg(cpus).arg(program);
                command
            }
        };
        match &self.telemetry {
            Telemetry::Usual => &mut command,
            Telemetry::Quiet => command.env("OTEL_SDK_DISABLED", "true"),
            Telemetry::Told(endpoint) => {
                command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_TRACES_SAMPLER", "parentbased_always_on")
            }
        };
        command
    }

    fn containerd(&self, image: &str, store: &Path) -> Result<Sample> {
        self.with_containerd(store, |socket, daemon| {
            let mut command = self.command(Path::new("ctr"));
            command.arg("--address").arg(socket);
            command.args(["images", "pull", "--snapshotter", "overlayfs"]);
            if self.tls {
                command.arg("--hosts-dir").arg(hosts(image, store)?);
            } else {
                command.arg("--plain-http");
            }
            command.arg(image);
            measure::run(&mut command, &[daemon], store)
        })
    }

    /// Does something while a containerd of this store runs: at a socket, as a process.
    pub(crate) fn with_containerd<T>(&self, store: &Path, work: impl FnOnce(&Path, u32) -> Result<T>) -> Result<T> {
        let config = store.join("config.toml");
        let socket = store.join("containerd.sock");
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = {socket:?}\n",
            store.join("root"),
            store.join("state"),
        );
        std::fs::write(&config, text)?;
        let mut command = self.command(Path::new("containerd"));
        command.arg("--config").arg(&config);
        let log = store.join("log");
        let mut daemon = Server::start("containerd", &command, &log)?;
        wait_for("containerd to answer", Duration::from_secs(30), || {
            if let Some(status) = daemon.ended() {
                return Seen::Yes(Err(anyhow::anyhow!("containerd ended at once ({status}):\n{}", daemon.log())));
            }
            let asked = Command::new("ctr").arg("--address").arg(&socket).arg("version").output();
            match asked {
                Ok(answer) if answer.status.success() => Seen::Yes(Ok(())),
                answer => Seen::NotYet(format!("{answer:?}")),
            }
        })?;
        let done = work(&socket, daemon.pid());
        daemon.stop()?;
        done
    }
}
