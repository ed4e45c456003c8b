//! The images of a run: they share layers in every way there is, and what each of their snapshots must show is known from
//! a store that nothing ever happened to.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use berth_testing::{
    berth::Berth,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer},
    tree::Tree,
};

use super::{
    daemon::{Daemon, Settings},
    look,
};
use crate::image::digests;

/// An image and what a pull of it leaves.
pub(super) struct Stored {
    pub(super) reference: String,
    pub(super) digests: Vec<String>,
    /// Those of its manifest and its config, which refer to all the rest.
    pub(super) documents: Vec<String>,
    /// Names of its snapshots, lowest first.
    pub(super) chain: Vec<String>,
}

/// The images, in a registry that is neither fast nor even.
pub(super) struct Catalog {
    pub(super) images: Vec<Stored>,
    /// What a snapshot of this name shows.
    pub(super) trees: BTreeMap<String, Tree>,
    _registry: HostileRegistry,
}

impl Catalog {
    pub(super) async fn new() -> Result<Self> {
        // Some milliseconds for each layer: kills and cuts then meet all of a pull.
        let slowly = Fault::Trickle(48 << 10, Duration::from_millis(2));
        let registry = HostileRegistry::start(Faults::none().always("/blobs/", slowly)).await;
        let mut images = Vec::new();
        for (name, image) in images_made() {
            registry.add_image(name, "v1", &image);
            images.push(Stored {
                reference: registry.reference(name, "v1"),
                digests: digests(&image),
                documents: [&image.target, &image.config].map(|document| document.digest.to_string()).into(),
                chain: berth_model::chain_ids(&image.diff_ids).iter().map(ToString::to_string).collect(),
            });
        }
        let mut catalog = Self { images, trees: BTreeMap::new(), _registry: registry };
        catalog.trees = catalog.learn()?;
        Ok(catalog)
    }

    /// Pulls everything into a store that is left in peace, and reads what it shows.
    fn learn(&self) -> Result<BTreeMap<String, Tree>> {
        let berth = Berth::new()?;
        let mut daemon = Daemon::start(&berth, "reference", &Settings::default())?;
        ensure!(daemon.wait_until_ready(&berth)?, "the daemon died:\n{}", daemon.log());
        for image in &self.images {
            berth.ok(["pull", "--plain-http", &image.reference])?;
        }
        let mut trees = BTreeMap::new();
        for name in self.images.iter().flat_map(|image| &image.chain) {
            if !trees.contains_key(name) {
                let tree = look::snapshot(&berth, "default", name).with_context(|| format!("look at {name}"))?;
                ensure!(tree.len() > 1, "snapshot {name} shows nothing");
                trees.insert(name.clone(), tree);
            }
        }
        Ok(trees)
    }
}

fn images_made() -> Vec<(&'static str, Image)> {
    let base = || {
        let many = (0..60).fold(Layer::new().dir(".").dir("etc").dir("usr").dir("usr/lib"), |layer, number| {
            layer.file(&format!("etc/{number}"), format!("{number}\n").repeat(number).as_bytes())
        });
        many.random_file("usr/lib/base", 700_000, 1)
            .symlink("usr/link", "lib/base")
            .hardlink("usr/same", "usr/lib/base")
    };
    let middle = || {
        Layer::new().dir("etc").whiteout("etc/7").file("etc/8", b"changed").dir("opt").random_file(
            "opt/middle",
            400_000,
            2,
        )
    };
    let opaque = || Layer::new().dir("etc").opaque("etc").file("etc/only", b"this").random_file("top", 200_000, 3);
    let large =
        || Layer::new().dir("var").random_file("var/large", 3 << 20, 4).file("var/text", &b"text ".repeat(200_000));
    let small = |text: &str| Layer::new().file("small", text.as_bytes());
    let of = |layers: Vec<Layer>| layers.into_iter().fold(ImageBuilder::new(), ImageBuilder::layer);
    let zstd = |layers: Vec<Layer>| {
        layers.into_iter().fold(ImageBuilder::new().compression(Compression::Zstd), ImageBuilder::layer)
    };
    vec![
        ("three", of(vec![base(), middle(), opaque()]).build()),
        ("other-top", of(vec![base(), middle(), small("other")]).docker().build()),
        // Equal layers in other blobs: their snapshots are there already, and the blobs must come all the same.
        ("recompressed", zstd(vec![base(), middle(), small("other")]).build()),
        ("large", of(vec![base(), large()]).build()),
        ("single", of(vec![small("alone")]).build()),
        ("tall", of((0..6).map(|n| small(&n.to_string()).dir("d").file(&format!("d/{n}"), b"x")).collect()).build()),
    ]
}
