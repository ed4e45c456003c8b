//! What numbers were measured with: when, by which programs, on what machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use berth_testing::docker_registry::Tls;
use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

const KERNEL: &str = "/proc/sys/kernel/osrelease";

/// The version of HTTP that is offered.
pub(crate) fn http(tls: Tls) -> &'static str {
    match tls {
        Tls::Http1 => "1.1",
        Tls::Http2 => "2",
    }
}

/// Of these Berths, pulling on `cpus`, or on all.
pub(crate) fn of(berths: &[PathBuf], cpus: Option<&str>, tls: Option<Tls>) -> Result<Map<String, Value>> {
    let kernel = std::fs::read_to_string(KERNEL).with_context(|| format!("read {KERNEL}"))?;
    let facts = [
        ("date", json!(Timestamp::now().round(Unit::Second)?.to_string())),
        ("berth", berths.iter().map(|program| version(program)).collect::<Result<_>>()?),
        ("cpus", json!(std::thread::available_parallelism()?)),
        ("pulled_on", json!(cpus)),
        ("kernel", json!(kernel.trim())),
        ("tls", json!(tls.map(http))),
    ];
    Ok(facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect())
}

/// What a program says of itself; nothing is there to ask at the socket.
fn version(program: &Path) -> Result<Value> {
    let mut command = Command::new(program);
    command.args(["--address", "/dev/null/none.sock", "version", "--json"]);
    let told = command.output().with_context(|| format!("start {}", program.display()))?;
    let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
    let client = |what: &str| told.pointer(&format!("/client/{what}")).cloned().unwrap_or_default();
    Ok(json!({ "program": program, "version": client("version"), "revision": client("revision") }))
}
