//! What a pull needs, worked out from its documents. Pure: no bus, no disk, no clock.

use berth_model::{Config, Descriptor, Digest, Index, Kind, Manifest, Platform, Status, chain_ids, labels};

/// More layers than this are refused: overlayfs itself stops at 500 lower directories (kernel, `OVL_MAX_STACK`).
pub const MAX_LAYERS: usize = 500;

/// One image of the pull: a manifest for a platform, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest itself.
    pub descriptor: Descriptor,
    /// What it says.
    pub manifest: Manifest,
}

/// One layer, with its place in the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its blob.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed bytes.
    pub diff_id: Digest,
    /// The name of its snapshot.
    pub chain_id: Digest,
    /// The name of the snapshot below; `None` for the lowest.
    pub parent: Option<Digest>,
}

/// The manifests of an index that serve the platforms, each once, in the order of the platforms.
pub fn choose(index: &Index, platforms: &[Platform]) -> Result<Vec<Descriptor>, Status> {
    let mut chosen: Vec<Descriptor> = Vec::new();
    for platform in platforms {
        let entry = index.choose(platform).map_err(refuse)?;
        if !chosen.iter().any(|known| known.digest == entry.digest) {
            chosen.push(entry.clone());
        }
    }
    Ok(chosen)
}

/// The stack of an image, lowest first.
pub fn stack(image: &Image, config: &Config) -> Result<Vec<Layer>, Status> {
    config.check_layers(&image.manifest).map_err(refuse)?;
    let chain = chain_ids(&config.diff_ids);
    let parents = std::iter::once(None).chain(chain.iter().copied().map(Some));
    Ok(image
        .manifest
        .layers
        .iter()
        .zip(&config.diff_ids)
        .zip(chain.iter().zip(parents))
        .map(|((descriptor, diff_id), (chain_id, parent))| Layer {
            descriptor: descriptor.clone(),
            diff_id: *diff_id,
            chain_id: *chain_id,
            parent,
        })
        .collect())
}

/// Refuses, before a layer is fetched, an image that could not be unpacked.
pub fn check_unpackable(image: &Image) -> Result<(), Status> {
    if image.manifest.layers.len() > MAX_LAYERS {
        return Err(Status::invalid_argument(format!(
            "manifest {} has {} layers; overlayfs can stack {MAX_LAYERS} at most",
            image.manifest.digest,
            image.manifest.layers.len()
        )));
    }
    match image.manifest.layers.iter().find(|layer| layer.media_type.kind() != Kind::Layer) {
        None => Ok(()),
        Some(layer) => Err(Status::invalid_argument(format!(
            "layer {} of manifest {} has media type {:?}, which is not a file system layer; \
             use --no-unpack to fetch it without unpacking",
            layer.digest,
            image.manifest.digest,
            layer.media_type.as_str()
        ))),
    }
}

/// A platform that a config names must be the one that was asked for, when no index was there to choose from.
pub fn check_platform(image: &Image, config: &Config, platforms: &[Platform]) -> Result<(), Status> {
    if config.platform.os.is_empty() || config.platform.architecture.is_empty() {
        return Ok(());
    }
    if platforms.iter().any(|wanted| wanted.fit(&config.platform).is_some()) {
        return Ok(());
    }
    let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    Err(Status::not_found(format!(
        "no manifest for platform {}: {} is an image for {} only; ask for that with --platform {}",
        wanted.join(", "),
        image.manifest.digest,
        config.platform,
        config.platform
    )))
}

/// What a broken document is to a caller.
#[must_use]
pub fn refuse(error: berth_model::ManifestError) -> Status {
    match error {
        berth_model::ManifestError::NoPlatform { .. } => {
            Status::not_found(format!("{error}; choose one with --platform"))
        }
        other => Status::invalid_argument(other.to_string()),
    }
}

/// The labels of an image's documents, by digest.
#[must_use]
pub fn document_labels(image: &Image, unpacked: Option<(&str, &Digest)>) -> Vec<(Digest, labels::Labels)> {
    let layers: Vec<Digest> = image.manifest.layers.iter().map(|layer| layer.digest).collect();
    let mut config = labels::Labels::new();
    if let Some((snapshotter, chain_id)) = unpacked {
        config.insert(labels::gc_ref_snapshot(snapshotter), chain_id.to_string());
    }
    vec![
        (image.manifest.digest, labels::of_manifest(&image.manifest.config.digest, &layers)),
        (image.manifest.config.digest, config),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::media_type::{OCI_CONFIG, OCI_MANIFEST};

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn d(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn image(layers: &[(u8, &str)]) -> Image {
        Image {
            descriptor: Descriptor::new(OCI_MANIFEST, d(0), 1),
            manifest: Manifest {
                digest: d(0),
                config: Descriptor::new(OCI_CONFIG, d(1), 1),
                layers: layers.iter().map(|(n, media_type)| Descriptor::new(*media_type, d(*n), 1)).collect(),
            },
        }
    }

    fn config(diff_ids: &[u8]) -> Config {
        Config {
            digest: d(1),
            platform: Platform::new("linux", "arm64", ""),
            diff_ids: diff_ids.iter().map(|n| d(*n)).collect(),
        }
    }

    #[test]
    fn stacks_layers_on_their_parents() {
        let layers = stack(&image(&[(10, LAYER), (11, LAYER)]), &config(&[20, 21])).unwrap();
        assert_eq!(layers[0].chain_id, d(20));
        assert_eq!(layers[0].parent, None);
        assert_eq!(layers[1].parent, Some(d(20)));
        assert_eq!(layers[1].chain_id, berth_model::chain_id(Some(&d(20)), &d(21)));
        assert!(stack(&image(&[]), &config(&[])).unwrap().is_empty());
    }

    #[test]
    fn refuses_what_does_not_fit_together() {
        let error = stack(&image(&[(10, LAYER)]), &config(&[])).unwrap_err();
        assert!(error.message.contains("1 layers") && error.message.contains("0 diff ids"), "{error}");
        let error = check_unpackable(&image(&[(10, "application/x-thing")])).unwrap_err();
        assert!(error.message.contains("application/x-thing") && error.message.contains("--no-unpack"), "{error}");
        assert!(check_unpackable(&image(&vec![(10, LAYER); MAX_LAYERS + 1])).is_err());
        let wanted = [Platform::new("linux", "amd64", "")];
        let error = check_platform(&image(&[]), &config(&[]), &wanted).unwrap_err();
        assert!(error.message.contains("linux/amd64") && error.message.contains("--platform linux/arm64"), "{error}");
    }

    #[test]
    fn labels_as_containerd_sets_them() {
        let labels = document_labels(&image(&[(10, LAYER), (11, LAYER)]), Some(("overlayfs", &d(30))));
        let manifest = &labels[0].1;
        assert_eq!(manifest["containerd.io/gc.ref.content.config"], d(1).to_string());
        assert_eq!(manifest["containerd.io/gc.ref.content.l.0"], d(10).to_string());
        assert_eq!(manifest["containerd.io/gc.ref.content.l.1"], d(11).to_string());
        assert_eq!(labels[1].1["containerd.io/gc.ref.snapshot.overlayfs"], d(30).to_string());
    }
}
