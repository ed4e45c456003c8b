//! Whole cold pulls beside the peers that the machine has, interleaved: `scripts/bench [OPTIONS] [IMAGE]...`
//!
//! An image is a reference of a registry, or `oci:DIR[:TAG]`, a layout that is pushed to a registry of this program's own.
//! Every pull begins with empty stores; the registry's files are in memory after the first round, which is not counted.

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod check;
mod daemons;
mod disk;
mod images;
mod interrupted;
mod layouts;
mod limits;
mod link;
mod measure;
mod peers;
mod reference;
mod report;
mod seen;
mod setting;
mod sink;
mod source;
mod svg;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use berth_testing::docker_registry::Tls;
use clap::{
    Parser,
    builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser as _},
};

use crate::{
    disk::Disk,
    images::Images,
    limits::Measured,
    link::{Link, Shape},
    peers::Peer,
    report::Series,
};

/// Compares whole cold pulls: wall time, processor time, memory, bytes. Medians of interleaved rounds.
#[derive(Parser)]
struct Options {
    /// Counted rounds of each image.
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
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
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    disk: u64,
    /// A link to pull through, as its rate and its round trip (`1gbit,20ms`), and the most of each connection if there is such a
    /// bound (`1gbit,20ms,100mbit`); may be given again. `loopback` is none.
    #[arg(long = "link", value_name = "LINK", default_value = "loopback")]
    links: Vec<String>,
    /// The registry of this program's own speaks TLS, with a certificate that nobody knows: HTTP/2 to whoever can, or only 1.1
    /// (`--tls=1.1`). Limits and checks still ask it by plain HTTP.
    #[arg(long, value_name = "HTTP", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(value_parser = PossibleValuesParser::new(["1.1", "2"]).map(|http| if http == "1.1" { Tls::Http1 } else { Tls::Http2 }))]
    tls: Option<Tls>,
    /// Also measures what the machine can do at most, stage by stage, on two and on all processors.
    #[arg(long)]
    limits: bool,
    /// Measures nothing: pulls each image once in each of these ways, and compares what a container would see of it, entry by
    /// entry, and the blobs that are kept, with what GNU tar makes of the layers and with what the registry has.
    #[arg(long, conflicts_with_all = ["rounds", "limits", "json", "svg", "waterfall"])]
    check: bool,
    /// Writes all numbers there.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draws the medians there, as bars.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Draws the last pull by Berth there, blob by blob, as `berth pulls explain --svg` does.
    #[arg(long)]
    waterfall: Option<PathBuf>,
    /// All tags of all layouts in there: as if each had been given as `oci:DIR/NAME:TAG`, in the order of their names.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// References, or `oci:DIR[:TAG]`.
    #[arg(required_unless_present = "corpus")]
    images: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    interrupted::watch()?;
    match (compare(&options), interrupted::by()) {
        (_, Some(signal)) => {
            eprintln!("\nended by {signal}");
            Ok(ExitCode::from(128_u8.saturating_add(signal as u8)))
        }
        (done, None) => done.map(|()| ExitCode::SUCCESS),
    }
}

fn compare(options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("unpacking needs root; run as root");
    }
    let links = options.links.iter().map(|link| Shape::named(link)).collect::<Result<Vec<_>, _>>();
    let links: Vec<(&str, Option<Shape>)> = links.map_err(anyhow::Error::msg)?;
    for path in [&options.json, &options.svg, &options.waterfall].into_iter().flatten() {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        ensure!(dir.is_none_or(Path::is_dir), "{} cannot be written: there is no such directory", path.display());
    }
    disk::hide_mounts()?;
    let mut dir = tempfile::Builder::new();
    let dir = dir.prefix("berth-bench");
    let work = match &options.work {
        Some(path) => dir.tempdir_in(path).with_context(|| format!("make a directory in {}", path.display()))?,
        None => dir.tempdir()?,
    };
    let peers = peers::find(&options.peers, &options.berth, options.cpus.as_deref(), options.tls.is_some())?;
    let drawn = options.waterfall.is_none() || peers.iter().any(Peer::draws);
    ensure!(drawn, "--waterfall draws a pull by `berth` without a daemon, which is not among the peers");
    let mut named = options.corpus.as_deref().map_or_else(|| Ok(Vec::new()), layouts::images)?;
    named.extend_from_slice(&options.images);
    let images = Images::prepare(&named, options.tls, work.path())?;
    let disk = Disk::new(work.path(), options.disk)?;
    if options.check {
        return check::all(&peers, &links, options.cpus.as_deref(), &images, &disk);
    }
    let cpus = std::thread::available_parallelism()?.get();
    let (mut all, mut bounds) = (Vec::new(), Vec::new());
    for (link, shape) in links {
        for image in images.list() {
            let reference = through(&image.reference, shape)?;
            let picture = options.waterfall.as_deref();
            let pull = Work { image: &image.name, link, reference, picture };
            let mut series = rounds(options.rounds, &peers, &pull, &images, &disk)?;
            print!("{}", report::table(&image.name, link, options.tls, &series));
            if options.limits && link == "loopback" {
                let measured = Measured::prepare(&image.source, &work.path().join("layers"))?;
                let rows = BTreeSet::from([2.min(cpus), cpus]).into_iter().map(|cpus| measured.on(cpus, &disk));
                let rows = rows.collect::<Result<Vec<_>>>()?;
                let used = options.cpus.as_deref().map_or(cpus, count);
                print!("{}", report::limits(&rows, used, &series));
                bounds.extend(rows.into_iter().map(|row| (image.name.clone(), row)));
                std::fs::remove_dir_all(work.path().join("layers"))?;
            }
            all.append(&mut series);
        }
    }
    if let Some(path) = &options.json {
        let setting = setting::of(&options.berth, options.cpus.as_deref(), options.tls)?;
        let text = serde_json::to_string_pretty(&report::json(setting, &all, &bounds))?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, svg::draw(&report::groups(&all))).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// What is pulled again and again.
struct Work<'a> {
    image: &'a str,
    link: &'a str,
    reference: String,
    picture: Option<&'a Path>,
}

/// So many counted rounds, and one before them. A peer that cannot pull the image is left out.
fn rounds(counted: usize, peers: &[Peer], work: &Work<'_>, images: &Images, disk: &Disk) -> Result<Vec<Series>> {
    let mut series: Vec<_> = peers.iter().map(|peer| (peer, Series::new(work.image, work.link, peer.name()))).collect();
    for round in 0..=counted {
        // Who is first has the quieter disk, or the colder one.
        series.reverse();
        let mut able = Vec::new();
        for (peer, mut samples) in series {
            let picture = work.picture.filter(|_| round == counted);
            match run(peer, &work.reference, picture, images, disk) {
                Ok(sample) if round > 0 => samples.samples.push(sample),
                Ok(_not_counted) => {}
                Err(error) if round == 0 && !peer.is_berth() && interrupted::by().is_none() => {
                    eprintln!("{} is left out, for it cannot pull {}: {error:#}", peer.name(), work.image);
                    continue;
                }
                Err(error) => return Err(error),
            }
            able.push((peer, samples));
        }
        series = able;
        eprint!(".");
    }
    eprintln!();
    let by_name = |name: &str| peers.iter().position(|peer| peer.name() == name);
    series.sort_by_key(|(peer, _)| by_name(peer.name()));
    Ok(series.into_iter().map(|(_, samples)| samples).collect())
}

/// The same image, through a link before its registry.
fn through(image: &str, shape: Option<Shape>) -> Result<String> {
    let Some(shape) = shape else { return Ok(image.to_owned()) };
    let (registry, rest) = image.split_once('/').context("a reference begins with its registry")?;
    Ok(format!("{}/{rest}", Link::before(registry, shape)?.host()))
}

/// How many processors a list like `0,2-3` names.
fn count(cpus: &str) -> usize {
    let many = |part: &str| -> usize {
        let ends = part.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        ends.map_or(1, |(first, last): (usize, usize)| (first..=last).count())
    };
    cpus.split(',').map(many).sum()
}

/// One cold pull, and its picture.
fn run(peer: &Peer, image: &str, picture: Option<&Path>, images: &Images, disk: &Disk) -> Result<measure::Sample> {
    let mounted = disk.fresh()?;
    // What others have left to be written must not be ours to wait for.
    rustix::fs::sync();
    let before = images.served();
    let mut sample = peer.pull(image, mounted.path()).with_context(|| format!("{} pulls {image}", peer.name()))?;
    sample.bytes = images.served().zip(before).map(|(after, before)| after - before);
    ensure!(sample.bytes != Some(0), "{} says that it has pulled {image}, and has fetched nothing", peer.name());
    if let Some(path) = picture {
        peer.draw(image, mounted.path(), path)?;
    }
    Ok(sample)
}
