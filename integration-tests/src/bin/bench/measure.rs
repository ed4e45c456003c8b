//! What one run of a program took.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};

/// How often memory is looked at. Peaks are the kernel's own count, so only what happens in the last moments can be missed.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// What one pull took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Processor seconds, user and system, of all who took part; without the registry.
    pub(crate) cpu: f64,
    /// Of `cpu`: in the kernel.
    pub(crate) system: f64,
    /// The largest sum of peaks of resident memory, in bytes.
    pub(crate) rss: u64,
    /// Seconds that flushing what was left took.
    pub(crate) flush: f64,
    /// Bytes that the registry sent.
    pub(crate) bytes: Option<u64>,
}

impl Sample {
    /// One after the other.
    pub(crate) fn and(self, next: &Self) -> Self {
        Self {
            wall: self.wall + next.wall,
            cpu: self.cpu + next.cpu,
            system: self.system + next.system,
            rss: self.rss.max(next.rss),
            flush: self.flush + next.flush,
            bytes: self.bytes,
        }
    }
}

/// Runs a program to its end; `daemons` work for it and are counted with it.
pub(crate) fn run(command: &mut Command, daemons: &[u32], store: &Path) -> Result<Sample> {
    let name = format!("{command:?}");
    let before = children()?;
    let daemons_before = daemons.iter().map(|pid| spent(*pid)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let (peak, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let pids: Vec<u32> = daemons.iter().copied().chain([child.id()]).collect();
    let (output, status, wall) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(&pids, &peak, &ended));
        let output = drain(&mut child);
        let status = child.wait();
        let wall = start.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        looking.thread().unpark();
        (output, status, wall)
    });
    let status = status?;
    ensure!(status.success(), "{name} failed ({status}):\n{output}");
    let after = children()?;
    let (mut user, mut system) = (after.0 - before.0, after.1 - before.1);
    for (pid, before) in daemons.iter().zip(daemons_before) {
        let after = spent(*pid)?;
        user += after.0 - before.0;
        system += after.1 - before.1;
    }
    let store = std::fs::File::open(store)?;
    let flushing = Instant::now();
    rustix::fs::syncfs(&store)?;
    let flush = flushing.elapsed().as_secs_f64();
    Ok(Sample { wall, cpu: user + system, system, rss: peak.load(Ordering::Relaxed), flush, bytes: None })
}

fn drain(child: &mut Child) -> String {
    child.stderr.take().and_then(|stderr| std::io::read_to_string(stderr).ok()).unwrap_or_default()
}

fn look(pids: &[u32], peak: &AtomicU64, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let sum = pids.iter().filter_map(|pid| high_water(*pid)).sum();
        peak.fetch_max(sum, Ordering::Relaxed);
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// The kernel's own peak of a process's resident memory, in bytes.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// User and system seconds of all children that have ended, and theirs.
fn children() -> Result<(f64, f64)> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(used.user_time()), seconds(used.system_time())))
}

/// User and system seconds of a running process and of its children that have ended (proc(5), `stat`).
fn spent(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
    // The name in brackets may hold anything; what counts follows it: fields 14 to 17, counted from 1.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| -> Result<f64> {
        let text = fields.get(number - 3).with_context(|| format!("{path} has no field {number}"))?;
        Ok(text.parse::<f64>()? / ticks)
    };
    Ok((field(14)? + field(16)?, field(15)? + field(17)?))
}
