//! Many pulls at once: no image waits for a larger one, no byte is fetched twice, and memory stays small. A few of them in each
//! run; 200 pulls of 20 images over 4 fetchers and 4 unpackers with `BERTH_MANY_PULLS=1`.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::*;

/// How large it is.
struct Scale {
    images: u64,
    namespaces: usize,
    workers: usize,
    layer: usize,
    many_layers: u64,
    /// The configuration: of few workers, few jobs are in flight.
    config: &'static str,
}

impl Scale {
    fn chosen() -> Self {
        if std::env::var_os("BERTH_MANY_PULLS").is_some() {
            Self { images: 20, namespaces: 10, workers: 4, layer: 2 << 20, many_layers: 100, config: "" }
        } else {
            let config = "[pulls]\nsmall_downloads = 8\nlarge_downloads = 8\nunpacks = 8\n";
            Self { images: 5, namespaces: 3, workers: 2, layer: 256 << 10, many_layers: 60, config }
        }
    }

    /// The first image has many layers; the others have one to four.
    fn image(&self, n: u64) -> Image {
        let layers = if n == 0 { self.many_layers } else { 1 + n % 4 };
        (0..layers)
            .fold(ImageBuilder::new(), |image, layer| {
                let seed = 1000 * (n + 1) + layer;
                image.layer_as(Compression::None, Layer::new().random_file(&format!("file-{layer}"), self.layer, seed))
            })
            .build()
    }
}

/// The most memory a process had, in KiB.
fn peak(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pulls_share_what_there_is() -> Result<()> {
    let scale = Scale::chosen();
    let mut berth = Berth::new()?;
    if !scale.config.is_empty() {
        berth.configure(scale.config)?;
    }
    let mut stage = Stage::start_on(Shape::Nats, berth)?;
    let url = stage.nats().url();
    for n in 3..=scale.workers {
        stage.serve(&format!("fetcher-{n}"), &["fetcher", "--nats", &url])?;
        stage.serve(&format!("unpacker-{n}"), &["unpacker", "--nats", &url])?;
    }
    let registry = HostileRegistry::start(Faults::none()).await;
    let images: Vec<Image> = (0..scale.images).map(|n| scale.image(n)).collect();
    let mut references = Vec::new();
    for (n, image) in images.iter().enumerate() {
        registry.add_image(&format!("app{n}"), "v1", image);
        references.push(registry.reference(&format!("app{n}"), "v1"));
    }

    let begun = Instant::now();
    // The one with many layers first, of each namespace; then all the others.
    for reference in &references {
        let mut starts = Vec::new();
        for namespace in 0..scale.namespaces {
            let namespace = format!("n{namespace}");
            starts.push(stage.spawn(["--namespace", &namespace, "pull", "--plain-http", "--detach", reference])?);
        }
        starts.into_iter().try_for_each(ends_well)?;
    }
    let asked = begun.elapsed();
    let listed = || -> Result<Vec<Value>> {
        let text = stage.ok(["pulls", "ls", "--all", "--all-namespaces", "--json"])?;
        Ok(lines(&text).iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?)
    };
    let pulls = wait_for("all pulls to end", Duration::from_secs(600), || {
        let pulls = match listed() {
            Ok(pulls) => pulls,
            Err(error) => return Seen::NotYet(format!("{error:#}")),
        };
        let going = pulls.iter().filter(|pull| pull["endedAt"].is_null()).count();
        if going == 0 { Seen::Yes(pulls) } else { Seen::NotYet(format!("{going} go on")) }
    });
    let took = begun.elapsed();
    assert_eq!(pulls.len(), references.len() * scale.namespaces);
    for pull in &pulls {
        assert_eq!(pull["state"], "done", "{pull:#}");
    }

    // Fairness: what is small is not held up by what is large and came before it.
    let ages = |large: bool| {
        let of = |pull: &&Value| (pull["reference"] == references[0].as_str()) == large;
        let mut ages: Vec<u64> = pulls.iter().filter(of).filter_map(|pull| pull["ageMs"].as_u64()).collect();
        ages.sort_unstable();
        ages
    };
    let (small, large) = (ages(false), ages(true));
    let middle = |ages: &[u64]| ages[ages.len() / 2];
    assert!(middle(&small) * 3 < middle(&large) * 2, "small: {small:?}, large: {large:?}");

    let unique: u64 = {
        let all: std::collections::BTreeMap<_, _> = images.iter().flat_map(|image| &image.blobs).collect();
        all.values().map(|bytes| bytes.len() as u64).sum()
    };
    let manifests: u64 = registry
        .seen_at("/manifests/")
        .iter()
        .filter(|request| request.method == "GET")
        .filter_map(|request| images.iter().position(|image| request.path.contains(&image.target.digest.to_string())))
        .map(|n| images[n].target.size)
        .sum();
    let documents: u64 = images.iter().map(|image| image.target.size).sum();
    assert_eq!(registry.sent() - manifests, unique - documents, "each blob was sent once");
    let mut peaks = Vec::new();
    for name in ["content", "metadata", "transfer", "fetcher-1", "unpacker-1", "gateway"] {
        peaks.push((name, peak(stage.server(name).pid())? / 1024));
    }
    let figures = format!(
        "{} pulls of {} images: asked for in {:.1} s, all done after {:.1} s; {} MB unique, {} MB sent; a small image took \
         {} ms (median; at most {}), one of {} layers {} ms (at most {}); peak MiB: {peaks:?}",
        pulls.len(),
        images.len(),
        asked.as_secs_f64(),
        took.as_secs_f64(),
        unique / 1_000_000,
        registry.sent() / 1_000_000,
        middle(&small),
        small.last().unwrap(),
        scale.many_layers,
        middle(&large),
        large.last().unwrap(),
    );
    eprintln!("{figures}");
    for (name, mebibytes) in &peaks {
        assert!(*mebibytes < 300, "{name}: {figures}");
    }
    Ok(())
}
