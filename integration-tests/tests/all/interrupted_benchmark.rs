//! A benchmark that is interrupted while it pulls leaves nothing behind: no process, mount, loop device or file.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use berth_integration_tests::image::write_layout;
use berth_testing::{
    berth,
    image::{ImageBuilder, Layer},
    running::Running,
    wait::{Seen, wait_for},
};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(60);
/// Reservations of ports are shared by all that run at the same time.
const PORTS: &str = "berth-test-ports";

/// What there is of a run in the machine; all of it is told by the directory that the run has for temporary files.
#[derive(Debug, Default)]
struct Traces {
    /// Command lines.
    processes: Vec<String>,
    mounts: Vec<String>,
    loop_devices: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Traces {
    fn of(temporary: &Path) -> Result<Self> {
        let mut traces = Self::default();
        let within =
            |text: &[u8]| text.windows(temporary.as_os_str().len()).any(|at| at == temporary.as_os_str().as_bytes());
        let entries = |dir: &Path| -> Result<Vec<PathBuf>> {
            Ok(fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
        };
        // What goes in the middle cannot be read, and is gone.
        let read = |path: PathBuf| fs::read(path).unwrap_or_default();
        for process in entries(Path::new("/proc"))? {
            if within(&read(process.join("environ"))) {
                traces.processes.push(String::from_utf8_lossy(&read(process.join("cmdline"))).replace('\0', " "));
            }
            let mounts = read(process.join("mountinfo"));
            let ours = mounts.split(|byte| *byte == b'\n').filter(|line| within(line));
            traces.mounts.extend(ours.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
        for device in entries(Path::new("/sys/block"))? {
            if within(&read(device.join("loop/backing_file"))) {
                traces.loop_devices.push(device);
            }
        }
        traces.files = entries(temporary)?;
        traces.files.retain(|path| !path.ends_with(PORTS));
        Ok(traces)
    }

    /// Whether a command of the run pulls, to a disk of its own.
    fn pulls(&self) -> bool {
        let pull = self.processes.iter().any(|line| line.contains(" pull "));
        pull && ![self.mounts.len(), self.loop_devices.len(), self.files.len()].contains(&0)
    }

    fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.mounts.is_empty() && self.loop_devices.is_empty() && self.files.is_empty()
    }
}

fn interrupt(peer: &str) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (layout, temporary) = (scratch.path().join("app"), scratch.path().join("temporary"));
    // Four seconds on this link.
    let image = ImageBuilder::new().layer(Layer::new().random_file("data", 512 << 10, 1)).build();
    write_layout(&image, &layout, "v1")?;
    fs::create_dir(&temporary)?;
    let ports = std::env::temp_dir().join(PORTS);
    fs::create_dir_all(&ports)?;
    symlink(&ports, temporary.join(PORTS))?;

    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.env("TMPDIR", &temporary).args(["--disk", "1", "--link", "1mbit,1ms", "--peers", peer]);
    command.arg("--berth").arg(berth::binary()).arg(format!("oci:{}:v1", layout.display()));
    let mut bench = Running::start(command)?;
    wait_for("a pull", LIMIT, || match Traces::of(&temporary) {
        Ok(traces) if traces.pulls() => Seen::Yes(()),
        traces => {
            assert!(!bench.has_ended(), "{}", bench.output());
            Seen::NotYet((traces, bench.output()))
        }
    });
    bench.signal(Signal::SIGTERM)?;
    wait_for("nothing to be left", LIMIT, || match Traces::of(&temporary) {
        Ok(traces) if traces.is_empty() => Seen::Yes(()),
        traces => Seen::NotYet(traces),
    });
    let ended = bench.finish()?;
    assert_eq!(ended.code, 128 + 15, "{}", ended.stderr);
    assert!(ended.stderr.ends_with("\nended by SIGTERM\n"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn by_a_program_of_its_own() -> Result<()> {
    interrupt("berth")
}

#[test]
fn by_services_over_nats() -> Result<()> {
    interrupt("nats")
}

#[test]
fn by_a_peer_with_a_daemon() -> Result<()> {
    interrupt("containerd")
}
