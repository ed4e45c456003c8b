//! The units of `deploy/systemd`: systemd understands all of them, and finds them locked in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use berth_testing::berth::binary;

/// Services that are processes of their own, each an instance of the template.
const SERVICES: [&str; 7] = ["content", "metadata", "fetcher", "unpacker", "transfer", "gc", "gateway"];

/// A copy of the units, for the program that the tests built.
fn units() -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    copy_below(&from, copy.path())?;
    Ok(copy)
}

fn copy_below(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let (from, to) = (
            entry.as_ref().map(fs::DirEntry::path),
            to.join(entry.as_ref().map(fs::DirEntry::file_name).unwrap_or_default()),
        );
        let from = from.map_err(|error| anyhow::anyhow!("read a directory: {error}"))?;
        if from.is_dir() {
            fs::create_dir(&to)?;
            copy_below(&from, &to)?;
        } else {
            let text = fs::read_to_string(&from)?.replace("/usr/bin/berth", &binary().display().to_string());
            fs::write(&to, text)?;
        }
    }
    Ok(())
}

fn analyze(units: &Path, args: &[&str], files: &[PathBuf]) -> Result<String> {
    let done = Command::new("systemd-analyze")
        .args(args)
        .args(files)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
        .output()
        .context("run systemd-analyze (package systemd)")?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success(), "systemd-analyze {args:?} {files:?}: {said}");
    Ok(said)
}

#[test]
fn systemd_understands_every_unit() -> Result<()> {
    let units = units()?;
    let of = |name: &str| units.path().join(name);
    let mut files = vec![of("berth.service"), of("berth.socket"), of("berth-gateway.socket")];
    files.extend(SERVICES.map(|service| of(&format!("berth@{service}.service"))));
    // An instance is a link to the template.
    for service in SERVICES {
        std::os::unix::fs::symlink("berth@.service", of(&format!("berth@{service}.service")))?;
    }
    for file in files {
        let said = analyze(units.path(), &["verify", "--man=no"], std::slice::from_ref(&file))?;
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("berth")).collect();
        ensure!(ours.is_empty(), "{}: {}", file.display(), ours.join("\n"));
    }
    Ok(())
}

/// What systemd thinks of how much of the machine a service could reach: 0 is nothing, 10 is everything.
#[test]
fn every_service_is_locked_in() -> Result<()> {
    let units = units()?;
    for service in SERVICES {
        let name = format!("berth@{service}.service");
        std::os::unix::fs::symlink("berth@.service", units.path().join(&name))?;
        // Root that mounts reaches far, whatever else is taken from it.
        let most = if service == "unpacker" { 40 } else { 20 };
        locked_in(units.path(), &name, most)?;
    }
    locked_in(units.path(), "berth.service", 40)
}

fn locked_in(units: &Path, name: &str, most: u32) -> Result<()> {
    let threshold = format!("--threshold={most}");
    let args = ["security", "--offline=true", "--no-pager", &threshold];
    analyze(units, &args, &[units.join(name)]).map(drop)
}
