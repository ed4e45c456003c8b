//! Memory is bounded, whatever the size of the image.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use berth_testing::{
    hostile::{Faults, HostileRegistry},
    image::{Compression, ImageBuilder, Layer, random_bytes},
    shape::{Shape, Stage},
    wait::{Seen, wait_for},
};

/// What a pull may use at its peak.
const LIMIT_KIB: u64 = 300 * 1024;

/// How many megabytes the image holds: enough to show that memory does not grow with it; `scripts/rss` asks for more.
fn size_mib() -> usize {
    std::env::var("BERTH_RSS_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_image_needs_no_big_memory() -> Result<()> {
    let registry = HostileRegistry::start(Faults::none()).await;
    let packings = [Compression::Gzip, Compression::Zstd, Compression::Gzip, Compression::None];
    let layer_mib = size_mib() / packings.len();
    let image = packings
        .into_iter()
        .zip(0..)
        .fold(ImageBuilder::new(), |image, (packing, seed)| image.layer_as(packing, big_layer(layer_mib, seed)));
    let image = image.build();
    registry.add_image("big", "v1", &image);

    let stage = Stage::start(Shape::Alone)?;
    let mut pull = stage.spawn(["pull", "--plain-http", &registry.reference("big", "v1")])?;
    let mut peak = 0;
    let status = format!("/proc/{}/status", pull.pid());
    wait_for("the pull to end", Duration::from_secs(600), || {
        // A process that has ended has no memory to report: the last answer counts.
        if let Ok(text) = fs::read_to_string(&status)
            && let Some(kib) = high_water_mark(&text)
        {
            peak = kib;
        }
        if pull.has_ended() { Seen::Yes(()) } else { Seen::NotYet(pull.output()) }
    });
    let pulled = pull.finish()?;
    assert_eq!(pulled.code, 0, "{pulled:?}");
    println!("peak resident set for an image of {} MiB: {} MiB", size_mib(), peak / 1024);
    assert!(peak > 0, "the kernel told nothing");
    assert!(peak < LIMIT_KIB, "{} MiB at the peak", peak / 1024);
    Ok(())
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Files of 4 MiB, half of their bytes random: they compress to about one half.
fn big_layer(mib: usize, seed: u64) -> Layer {
    let half = random_bytes(2 << 20, seed);
    (0..mib / 4).fold(Layer::new(), |layer, n| {
        let mut file = half.clone();
        file.resize(4 << 20, b'.');
        // Not the same file again and again, or a window finds it.
        file.iter_mut().zip(random_bytes(2 << 20, seed * 10_000 + n as u64)).for_each(|(byte, random)| *byte ^= random);
        layer.file(&format!("file-{seed}-{n}"), &file)
    })
}

#[test]
fn the_kernels_answer_is_read() -> Result<()> {
    let text = "Name:\tberth\nVmPeak:\t  900 kB\nVmHWM:\t  1234 kB\n";
    assert_eq!(high_water_mark(text).context("a number")?, 1234);
    Ok(())
}
