//! The way of a made image into a real registry or an OCI layout, and changes to its manifest that no builder makes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use berth_model::{Descriptor, Digest, Kind};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{Compression, Image, ImageBuilder, Layer},
    push::Pusher,
};
use bytes::Bytes;
use serde_json::{Value, json};

/// The reference of an image in a registry: `HOST/NAME:TAG`.
#[must_use]
pub fn reference(registry: &DockerRegistry, name: &str, tag: &str) -> String {
    format!("{}/{name}:{tag}", registry.host())
}

/// Puts everything into a registry; the reference to pull it by.
pub async fn push(image: &Image, registry: &DockerRegistry, name: &str, tag: &str) -> Result<String> {
    let pusher = Pusher::new(&registry.host(), name, registry.login())?;
    let manifests = manifests_below(image)?;
    for (digest, bytes) in &image.blobs {
        let is_document = manifests.iter().any(|manifest| manifest.digest == *digest);
        if !is_document && *digest != image.target.digest {
            pusher.blob(&digest.to_string(), bytes.clone()).await?;
        }
    }
    for manifest in &manifests {
        let tag = manifest.digest.to_string();
        put(&pusher, image, &tag, manifest).await?;
    }
    put(&pusher, image, tag, &image.target).await?;
    Ok(reference(registry, name, tag))
}

async fn put(pusher: &Pusher, image: &Image, tag: &str, document: &Descriptor) -> Result<()> {
    let bytes = blob(image, &document.digest)?;
    pusher.manifest(tag, document.media_type.as_str(), bytes.clone()).await
}

fn blob<'a>(image: &'a Image, digest: &Digest) -> Result<&'a Bytes> {
    image.blobs.get(digest).with_context(|| format!("the image has no blob {digest}"))
}

/// The manifests an index names; none if the image is no index.
fn manifests_below(image: &Image) -> Result<Vec<Descriptor>> {
    if image.target.media_type.kind() != Kind::Index {
        return Ok(Vec::new());
    }
    let index = berth_model::Index::parse(image.target.digest, blob(image, &image.target.digest)?)?;
    Ok(index.manifests)
}

/// The digests of all that a pull of this image, which is no index, must leave in the content store.
#[must_use]
pub fn digests(image: &Image) -> Vec<String> {
    let mut all: Vec<String> = [&image.target, &image.config]
        .into_iter()
        .chain(&image.layers)
        .map(|descriptor| descriptor.digest.to_string())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The image with an edited manifest.
pub fn with_manifest(image: &Image, edit: impl FnOnce(&mut Value)) -> Result<Image> {
    let mut image = image.clone();
    let old = image.target.digest;
    let mut manifest: Value = serde_json::from_slice(blob(&image, &old)?)?;
    edit(&mut manifest);
    let bytes = Bytes::from(serde_json::to_vec(&manifest)?);
    image.blobs.remove(&old);
    image.target.digest = Digest::of(&bytes);
    image.target.size = bytes.len() as u64;
    image.manifest.digest = image.target.digest;
    image.manifest.size = image.target.size;
    image.blobs.insert(image.target.digest, bytes);
    Ok(image)
}

/// The image with another blob in the place of layer `index`; the manifest tells the truth about it, the config need not.
pub fn with_layer_blob(image: &Image, index: usize, bytes: impl Into<Bytes>) -> Result<Image> {
    let bytes = bytes.into();
    let (digest, size) = (Digest::of(&bytes), bytes.len());
    let mut image = with_manifest(image, |manifest| {
        if let Some(layer) = manifest.pointer_mut(&format!("/layers/{index}")) {
            layer["digest"] = json!(digest.to_string());
            layer["size"] = json!(size);
        }
    })?;
    if let Some(layer) = image.layers.get_mut(index) {
        image.blobs.remove(&layer.digest);
        layer.digest = digest;
        layer.size = size as u64;
    }
    image.blobs.insert(digest, bytes);
    Ok(image)
}

/// An image of layers that were made elsewhere, packed in turn in each way there is.
#[must_use]
pub fn packed(layers: &[Vec<u8>]) -> Image {
    let packings = [Compression::Gzip, Compression::Zstd, Compression::None];
    let layers = layers.iter().zip(packings.iter().cycle());
    let builder = layers
        .fold(ImageBuilder::new(), |image, (tar, packing)| image.layer_as(*packing, Layer::from_tar(tar.clone())));
    builder.build()
}

/// Makes an OCI layout of an image, under this tag.
pub fn write_layout(image: &Image, directory: &Path, tag: &str) -> Result<()> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
    let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).with_context(|| format!("write {}", path.display()));
    for (digest, bytes) in &image.blobs {
        write(&blobs.join(digest.hex()), bytes)?;
    }
    let target = json!({
        "mediaType": image.target.media_type.as_str(), "digest": image.target.digest.to_string(), "size": image.target.size,
        "annotations": { "org.opencontainers.image.ref.name": tag },
    });
    let index = json!({ "schemaVersion": 2, "manifests": [target] });
    write(&directory.join("index.json"), &serde_json::to_vec(&index)?)?;
    write(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// Reads the tag `latest` of an OCI layout.
pub fn read_layout(directory: &Path) -> Result<Image> {
    let read = |digest: &Digest| -> Result<Bytes> {
        let path = directory.join("blobs/sha256").join(digest.hex());
        Ok(fs::read(&path).with_context(|| format!("read {}", path.display()))?.into())
    };
    let index = fs::read(directory.join("index.json")).context("read index.json")?;
    let index = berth_model::Index::parse(Digest::of(&index), &index)?;
    let target = index.manifests.first().context("the layout names an image")?.clone();
    let bytes = read(&target.digest)?;
    let manifest = berth_model::Manifest::parse(target.digest, &bytes)?;
    let config_bytes = read(&manifest.config.digest)?;
    let config = berth_model::Config::parse(manifest.config.digest, &config_bytes)?;
    let mut blobs = [(target.digest, bytes), (manifest.config.digest, config_bytes)]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>();
    for layer in &manifest.layers {
        blobs.insert(layer.digest, read(&layer.digest)?);
    }
    Ok(Image {
        target: target.clone(),
        manifest: target,
        config: manifest.config,
        layers: manifest.layers,
        diff_ids: config.diff_ids,
        blobs,
    })
}
