//! What durability costs: the same pull with every flush, and with none.
//!
//! `cargo run --release -p berth-integration-tests --bin durability` (as root, after `cargo build --release -p berth`). It
//! pulls an image of many small and some large files again and again into new stores below the directory for temporary
//! files, by turns with `durability = "synced"` and `"none"`, and prints the middle of the times. A flush of snapshots
//! flushes their whole file system: with other writers on the same disk the price is theirs too.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use berth_integration_tests::image::push;
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
};
use clap::Parser;

/// Measures what durability costs a pull.
#[derive(Debug, Parser)]
struct Options {
    /// Pulls with each setting
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Layers of the image
    #[arg(long, default_value_t = 8)]
    layers: u64,
    /// Small files in each
    #[arg(long, default_value_t = 1000)]
    files: usize,
    /// Incompressible bytes in each, in MiB
    #[arg(long, default_value_t = 8)]
    mebibytes: usize,
}

fn image(options: &Options) -> Image {
    (0..options.layers)
        .fold(ImageBuilder::new(), |image, number| {
            let large = Layer::new().dir(&format!("{number}")).random_file(
                &format!("{number}/large"),
                options.mebibytes << 20,
                number,
            );
            image.layer((0..options.files).fold(large, |layer, file| {
                layer.file(&format!("{number}/{file}"), format!("file {file}\n").repeat(file % 200).as_bytes())
            }))
        })
        .build()
}

/// One pull into a new store, by a daemon that runs already.
fn pull(reference: &str, durability: &str) -> Result<Duration> {
    let mut berth = Berth::new()?;
    berth.set("BERTH_DURABILITY", durability);
    // Nothing of what others wrote is to be flushed at our expense.
    rustix::fs::syncfs(fs::File::open(berth.scratch())?)?;
    let begun = Instant::now();
    berth.ok(["pull", "--plain-http", "--quiet", reference])?;
    Ok(begun.elapsed())
}

fn middle(times: &mut [Duration]) -> Result<Duration> {
    times.sort();
    times.get(times.len() / 2).copied().context("no round")
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0, "at least one round");
    let registry = DockerRegistry::start()?;
    let image = image(&options);
    let bytes: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let reference = push(&image, &registry, "app", "v1").await?;
    let (mut synced, mut none) = (Vec::new(), Vec::new());
    tokio::task::spawn_blocking(move || {
        pull(&reference, "none")?;
        for _ in 0..options.rounds {
            synced.push(pull(&reference, "synced")?);
            none.push(pull(&reference, "none")?);
        }
        let (synced, none) = (middle(&mut synced)?.as_secs_f64(), middle(&mut none)?.as_secs_f64());
        println!(
            "{} layers, {} files, {:.1} MB",
            options.layers,
            options.layers * options.files as u64,
            bytes as f64 / 1e6
        );
        println!("synced {synced:.3} s, none {none:.3} s: durability costs {:.0} %", (synced / none - 1.0) * 100.0);
        Ok(())
    })
    .await?
}
