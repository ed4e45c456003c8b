//! An interrupted run leaves nothing behind: whomever it waits for is ended, so that it ends by the way that errors take.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

/// How often those are ended that were started since.
const AGAIN: Duration = Duration::from_millis(50);

static BY: AtomicI32 = AtomicI32::new(0);

/// From now on a signal that asks the program to end has its children ended. A second one ends it as it is. To be called before
/// there are other threads.
pub(crate) fn watch() -> Result<()> {
    let asked = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    asked.thread_block().context("block signals")?;
    std::thread::spawn(move || {
        let Ok(signal) = asked.wait() else { return };
        BY.store(signal as i32, Ordering::SeqCst);
        if let Err(error) = asked.thread_unblock() {
            eprintln!("unblock signals: {error}");
        }
        loop {
            for child in children() {
                // It may have ended by itself.
                let _ended = kill(child, Signal::SIGKILL);
            }
            std::thread::sleep(AGAIN);
        }
    });
    Ok(())
}

/// The signal that ends the run, if there was one.
pub(crate) fn by() -> Option<Signal> {
    Signal::try_from(BY.load(Ordering::SeqCst)).ok()
}

/// An error if the run is to end.
pub(crate) fn check() -> Result<()> {
    match by() {
        Some(signal) => bail!("ended by {signal}"),
        None => Ok(()),
    }
}

/// The children of this process (proc(5): `stat`, fields 1 and 4).
fn children() -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let child = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in brackets may hold anything.
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        (parent == own).then_some(Pid::from_raw(pid))
    };
    processes.filter_map(child).collect()
}
