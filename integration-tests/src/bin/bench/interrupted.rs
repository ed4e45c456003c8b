//! An interrupted run leaves nothing behind: whomever it waits for is ended, so that it ends by the way that errors take.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

/// How often those are ended that were started since.
const AGAIN: Duration = Duration::from_millis(50);

static BY: AtomicI32 = AtomicI32::new(0);

/// From now on a signal that asks the program to end has its children ended, again and again. They themselves hear signals as
/// ever.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _heard_by_it = runtime.enter();
    let listen = |kind| signal(kind).context("listen to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    std::thread::spawn(move || {
        let asked = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Signal::SIGINT,
                _ = terminate.recv() => Signal::SIGTERM,
                _ = hang_up.recv() => Signal::SIGHUP,
            }
        });
        BY.store(asked as i32, Ordering::SeqCst);
        loop {
            for child in children() {
                // It may have ended by itself.
                let _ended = kill(child, Signal::SIGKILL);
            }
            // sleeps: until others may have been started.
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
