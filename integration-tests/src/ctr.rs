//! Debian's `ctr`, containerd's own command line, against a socket of Berth's. It knows nothing of Berth.

use std::{ffi::OsStr, fs::File, path::Path, process::Command};

use anyhow::Result;
use berth_testing::{
    berth::Berth,
    running::{Finished, Running},
};

/// A `ctr` command for the daemon of this root.
pub fn command<S: AsRef<OsStr>>(berth: &Berth, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(berth.socket()).args(args).env("HOME", berth.scratch());
    for name in ["CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "CONTAINERD_SNAPSHOTTER"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub fn run<S: AsRef<OsStr>>(berth: &Berth, args: impl IntoIterator<Item = S>) -> Result<Finished> {
    Running::start(command(berth, args))?.finish()
}

/// Its standard output; it must succeed.
///
/// # Panics
///
/// If it fails.
pub fn ok<S: AsRef<OsStr>>(berth: &Berth, args: impl IntoIterator<Item = S>) -> Result<String> {
    finished(command(berth, args))
}

/// The same, with a file as its standard input.
///
/// # Panics
///
/// If it fails.
pub fn ok_with_input<S: AsRef<OsStr>>(
    berth: &Berth,
    args: impl IntoIterator<Item = S>,
    input: &Path,
) -> Result<String> {
    let mut command = command(berth, args);
    command.stdin(File::open(input)?);
    finished(command)
}

fn finished(command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = Running::start(command)?.finish()?;
    assert!(done.code == 0, "{shown}\nexit code {}\n{}\n{}", done.code, done.stdout, done.stderr);
    Ok(done.stdout)
}

/// Its standard error; it must fail.
///
/// # Panics
///
/// If it succeeds.
pub fn fails<S: AsRef<OsStr>>(berth: &Berth, args: impl IntoIterator<Item = S>) -> Result<String> {
    let command = command(berth, args);
    let shown = format!("{command:?}");
    let done = Running::start(command)?.finish()?;
    assert!(done.code > 0, "{shown}\nshould fail\n{}\n{}", done.stdout, done.stderr);
    Ok(done.stderr)
}
