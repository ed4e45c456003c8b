//! Whole cold pulls beside the peers that the machine has, interleaved: `scripts/bench [OPTIONS] [IMAGE]...`
//!
//! An image is a reference of a registry, or `oci:DIR[:TAG]`, a layout that is pushed to a registry of this program's own.
//! Every pull begins with empty stores; the registry's files are in memory after the first round, which is not counted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod daemons;
mod disk;
mod images;
mod measure;
mod peers;
mod report;
mod sink;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{disk::Disk, images::Images, peers::Peer, report::Series};

/// Compares whole cold pulls: wall time, processor time, memory, bytes. Medians of interleaved rounds.
#[derive(Parser)]
struct Options {
    /// Counted rounds of each image.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Who pulls: berth, containerd, podman, umoci, and berth as `daemon` or over `nats`. What is not installed is left out.
    /// What telemetry costs: `told,quiet` and `daemon-told,daemon-quiet`, with traces and numbers sent, and without any.
    #[arg(long, value_delimiter = ',', default_value = "berth,containerd,podman,umoci")]
    peers: Vec<String>,
    /// Only these processors, as `taskset` names them (`0,1`), for whoever pulls.
    #[arg(long)]
    cpus: Option<String>,
    /// The program to measure; more than one are compared with one another.
    #[arg(long, required = true)]
    berth: Vec<PathBuf>,
    /// Where the file is made that holds the file system to pull to: on the disk that is to be measured.
    #[arg(long)]
    work: Option<PathBuf>,
    /// Gigabytes of that file system.
    #[arg(long, default_value_t = 16)]
    disk: u64,
    /// Writes all numbers there.
    #[arg(long)]
    json: Option<PathBuf>,
    /// References, or `oci:DIR[:TAG]`.
    #[arg(required = true)]
    images: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !nix::unistd::geteuid().is_root() {
        bail!("unpacking needs root; run as root");
    }
    disk::hide_mounts()?;
    let mut dir = tempfile::Builder::new();
    let dir = dir.prefix("berth-bench");
    let work = match &options.work {
        Some(path) => dir.tempdir_in(path).with_context(|| format!("make a directory in {}", path.display()))?,
        None => dir.tempdir()?,
    };
    let peers = peers::find(&options.peers, &options.berth, options.cpus.as_deref())?;
    let images = Images::prepare(&options.images, work.path())?;
    let disk = Disk::new(work.path(), options.disk)?;
    let mut all = Vec::new();
    for image in images.list() {
        let mut series: Vec<Series> = peers.iter().map(|peer| Series::new(image, peer.name())).collect();
        for round in 0..=options.rounds {
            let mut order: Vec<_> = peers.iter().zip(&mut series).collect();
            // Who is first has the quieter disk, or the colder one.
            if round % 2 == 1 {
                order.reverse();
            }
            for (peer, series) in order {
                let sample = run(peer, image, &images, &disk)?;
                if round > 0 {
                    series.samples.push(sample);
                }
            }
            eprint!(".");
        }
        eprintln!();
        print!("{}", report::table(image, &series));
        all.append(&mut series);
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report::json(&all))?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// One cold pull.
fn run(peer: &Peer, image: &str, images: &Images, disk: &Disk) -> Result<measure::Sample> {
    let mounted = disk.fresh()?;
    // What others have left to be written must not be ours to wait for.
    rustix::fs::sync();
    let before = images.served();
    let mut sample = peer.pull(image, mounted.path()).with_context(|| format!("{} pulls {image}", peer.name()))?;
    sample.bytes = images.served().zip(before).map(|(after, before)| after - before);
    Ok(sample)
}
