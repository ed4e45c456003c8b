//! Images made in memory: layers from tars, in any compression, OCI or Docker, alone or in an index; sound by default,
//! and broken in one place where a test wants that.
//!
//! ```
//! use berth_testing::image::{Compression, ImageBuilder, Layer};
//! let image = ImageBuilder::new()
//!     .layer(Layer::new().dir("etc").file("etc/motd", b"hello"))
//!     .layer_as(Compression::Zstd, Layer::new().whiteout("etc/motd"))
//!     .build();
//! assert_eq!(image.layers.len(), 2);
//! ```

use std::collections::BTreeMap;

use berth_model::{Descriptor, Digest, Platform, media_type};
use bytes::Bytes;
use serde_json::{Value, json};

mod layer;

pub use layer::{Compression, Layer, random_bytes};

/// An image, or an index of images: what names it, and every blob it needs.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest's or the index's descriptor.
    pub target: Descriptor,
    /// The manifest; the first one of an index.
    pub manifest: Descriptor,
    /// The configuration; the first image's of an index.
    pub config: Descriptor,
    /// The layers, lowest first; the first image's of an index.
    pub layers: Vec<Descriptor>,
    /// Digests of the uncompressed layers, as the config states them.
    pub diff_ids: Vec<Digest>,
    /// All of it: manifests, configs, layers.
    pub blobs: BTreeMap<Digest, Bytes>,
}

/// Makes an [`Image`].
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    layers: Vec<(Compression, Layer)>,
    compression: Compression,
    docker: bool,
    platform: Platform,
    wrong_diff_id: Option<usize>,
    extra_diff_ids: usize,
    wrong_size: Option<(usize, i64)>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An OCI image for this host's platform, gzip layers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            compression: Compression::Gzip,
            docker: false,
            platform: Platform::host(),
            wrong_diff_id: None,
            extra_diff_ids: 0,
            wrong_size: None,
        }
    }

    /// Compression of the layers added after this.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(self, layer: Layer) -> Self {
        let compression = self.compression;
        self.layer_as(compression, layer)
    }

    /// Adds a layer in a compression of its own.
    #[must_use]
    pub fn layer_as(mut self, compression: Compression, layer: Layer) -> Self {
        self.layers.push((compression, layer));
        self
    }

    /// Docker's media types instead of OCI's.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// What it runs on, `os/architecture[/variant]`.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.parse().unwrap();
        self
    }

    /// Broken: the config states another diff id for layer `index`.
    #[must_use]
    pub fn wrong_diff_id(mut self, index: usize) -> Self {
        self.wrong_diff_id = Some(index);
        self
    }

    /// Broken: the config has so many diff ids more than the manifest has layers.
    #[must_use]
    pub fn extra_diff_ids(mut self, count: usize) -> Self {
        self.extra_diff_ids = count;
        self
    }

    /// Broken: the manifest states a size for layer `index` that is off by `delta` bytes.
    #[must_use]
    pub fn wrong_layer_size(mut self, index: usize, delta: i64) -> Self {
        self.wrong_size = Some((index, delta));
        self
    }

    /// The image.
    #[must_use]
    pub fn build(&self) -> Image {
        let mut blobs = BTreeMap::new();
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for (index, (compression, layer)) in self.layers.iter().enumerate() {
            let tar = layer.tar();
            diff_ids.push(if self.wrong_diff_id == Some(index) {
                Digest::of(b"not this layer")
            } else {
                Digest::of(&tar)
            });
            let mut descriptor = keep(&mut blobs, compression.media_type(self.docker), compression.compress(&tar));
            if let Some((wrong, delta)) = self.wrong_size
                && wrong == index
            {
                descriptor.size = descriptor.size.checked_add_signed(delta).unwrap();
            }
            layers.push(descriptor);
        }
        diff_ids.extend((0..self.extra_diff_ids).map(|n| Digest::of(format!("extra {n}").as_bytes())));
        let config = json!({
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "variant": (!self.platform.variant.is_empty()).then_some(&self.platform.variant),
            "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": layers.iter().map(|_| json!({ "created_by": "berth-testing" })).collect::<Vec<_>>(),
        });
        let types = if self.docker {
            (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST)
        } else {
            (media_type::OCI_CONFIG, media_type::OCI_MANIFEST)
        };
        let config = keep(&mut blobs, types.0, document(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": types.1,
            "config": config,
            "layers": layers,
        });
        let mut manifest = keep(&mut blobs, types.1, document(&manifest));
        let target = manifest.clone();
        manifest.platform = Some(self.platform.clone());
        Image { target, manifest, config, layers, diff_ids, blobs }
    }
}

/// An index over images, each for its own platform; Docker's list if the first image is Docker's.
#[must_use]
pub fn index(images: &[Image]) -> Image {
    let first = images.first().expect("an index needs an image");
    let docker = first.manifest.media_type.as_str() == media_type::DOCKER_MANIFEST;
    let kind = if docker { media_type::DOCKER_LIST } else { media_type::OCI_INDEX };
    let mut blobs: BTreeMap<Digest, Bytes> = images.iter().flat_map(|image| image.blobs.clone()).collect();
    let manifests: Vec<_> = images.iter().map(|image| &image.manifest).collect();
    let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
    let target = keep(&mut blobs, kind, document(&list));
    Image { target, blobs, ..first.clone() }
}

fn document(value: &Value) -> Bytes {
    serde_json::to_vec_pretty(value).unwrap().into()
}

fn keep(blobs: &mut BTreeMap<Digest, Bytes>, media_type: &str, bytes: Bytes) -> Descriptor {
    let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
    blobs.insert(descriptor.digest, bytes);
    descriptor
}

#[cfg(test)]
mod tests {
    use berth_model::{Config, Index, Manifest};

    use super::*;

    #[test]
    fn images_are_sound() {
        for (docker, compression) in [(false, Compression::Zstd), (true, Compression::Gzip), (false, Compression::None)]
        {
            let mut builder = ImageBuilder::new()
                .compression(compression)
                .layer(Layer::new().file("a", b"1"))
                .layer(Layer::new().whiteout("a"));
            builder.docker = docker;
            let image = index(&[builder.build(), builder.platform("linux/arm/v7").build()]);
            for (digest, bytes) in &image.blobs {
                assert_eq!(*digest, Digest::of(bytes));
            }
            let list = Index::parse(image.target.digest, &image.blobs[&image.target.digest]).unwrap();
            let chosen = list.choose(&Platform::host()).unwrap();
            let manifest = Manifest::parse(chosen.digest, &image.blobs[&chosen.digest]).unwrap();
            let config = Config::parse(manifest.config.digest, &image.blobs[&manifest.config.digest]).unwrap();
            config.check_layers(&manifest).unwrap();
            assert_eq!(config.diff_ids, image.diff_ids);
        }
    }

    #[test]
    fn broken_ones_are_broken_as_ordered() {
        let builder = || ImageBuilder::new().layer(Layer::new().file("a", b"1"));
        let sound = builder().build();
        assert_ne!(builder().wrong_diff_id(0).build().diff_ids, sound.diff_ids);
        assert_eq!(builder().extra_diff_ids(2).build().diff_ids.len(), 3);
        assert_eq!(builder().wrong_layer_size(0, 5).build().layers[0].size, sound.layers[0].size + 5);
    }
}
