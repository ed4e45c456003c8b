//! Looks into an image: its record, and the documents it is made of.

use anyhow::Context as _;
use berth_model::{Config, Descriptor, Digest, Index, Kind, Manifest, MediaType, Platform, chain_ids};
use berth_wire::{
    gateway::ReadRequest,
    metadata::{self as msg, GetImageRequest},
};

use crate::{
    client::Client,
    commands::{ahead::Ahead, refused},
};

/// A document of an image.
pub(crate) struct Document {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

/// The whole name of an image, as it is recorded.
pub(crate) fn name(reference: &str) -> String {
    // A name that is no reference may still be one that was recorded.
    reference.parse::<berth_model::Reference>().map_or_else(|_odd| reference.to_owned(), |whole| whole.to_string())
}

/// The record of an image.
pub(crate) async fn record(client: &Client, reference: &str) -> anyhow::Result<msg::Image> {
    let request = GetImageRequest { namespace: client.namespace.clone(), name: name(reference) };
    Ok(client.images().get(request).await.map_err(refused)?.into_inner())
}

/// Reads a small blob whole.
pub(crate) async fn read(client: &Client, digest: &Digest) -> anyhow::Result<Vec<u8>> {
    let request = ReadRequest { namespace: client.namespace.clone(), digest: digest.to_string(), offset: 0, size: 0 };
    let mut stream = client.content().read(request).await.map_err(refused)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await.map_err(refused)? {
        bytes.extend(chunk.data);
    }
    Ok(bytes)
}

async fn document(client: &Client, descriptor: Descriptor, ahead: &Ahead) -> anyhow::Result<Document> {
    let bytes = match ahead.get(&descriptor.digest) {
        Some(bytes) => bytes.to_vec(),
        None => read(client, &descriptor.digest).await?,
    };
    Ok(Document { descriptor, bytes })
}

/// An image's documents that are here: index (if it has one), and for each platform manifest and config.
pub(crate) struct Parts {
    pub(crate) index: Option<Document>,
    pub(crate) images: Vec<(Document, Manifest, Document)>,
}

/// Whether the namespace has a document.
async fn has(client: &Client, digest: &Digest, ahead: &Ahead) -> bool {
    if let Some(has) = ahead.has(digest) {
        return has;
    }
    let request = msg::GetContentRequest { namespace: client.namespace.clone(), digest: digest.to_string() };
    client.content().info(request).await.is_ok()
}

/// Reads the documents of an image, as far as they were not read ahead. Manifests of platforms that were not pulled are left
/// out.
pub(crate) async fn parts(client: &Client, image: &msg::Image, ahead: &Ahead) -> anyhow::Result<Parts> {
    let target = image.target.as_ref().context("the image's record has no target")?;
    let target = document(client, Descriptor::try_from(target)?, ahead).await?;
    let kind = Kind::of_document(target.descriptor.digest, &target.descriptor.media_type, &target.bytes)?;
    let mut parts = Parts { index: None, images: Vec::new() };
    let mut manifests = Vec::new();
    if kind == Kind::Index {
        for entry in Index::parse(target.descriptor.digest, &target.bytes)?.manifests {
            if has(client, &entry.digest, ahead).await {
                manifests.push(document(client, entry, ahead).await?);
            }
        }
        parts.index = Some(target);
    } else {
        manifests.push(target);
    }
    for manifest in manifests {
        let parsed = Manifest::parse(manifest.descriptor.digest, &manifest.bytes)?;
        let config = document(client, parsed.config.clone(), ahead).await?;
        parts.images.push((manifest, parsed, config));
    }
    Ok(parts)
}

/// The name of the snapshot that shows an image, for a platform or for the only one there is.
pub(crate) async fn chain_id(client: &Client, reference: &str, platform: Option<&Platform>) -> anyhow::Result<String> {
    let image = record(client, reference).await?;
    let parts = parts(client, &image, &Ahead::default()).await?;
    let mut configs = Vec::new();
    for (_, _, config) in &parts.images {
        configs.push(Config::parse(config.descriptor.digest, &config.bytes)?);
    }
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let best = configs
        .iter()
        .filter_map(|config| wanted.fit(&config.platform).map(|fit| (fit, config)))
        .min_by_key(|(fit, _)| *fit);
    let config = match (best, configs.as_slice(), platform) {
        (Some((_, config)), _, _) => config,
        (None, [only], None) => only,
        _ => {
            let there: Vec<String> = configs.iter().map(|config| config.platform.to_string()).collect();
            anyhow::bail!("{} was not pulled for {wanted}; it is here for {}", image.name, there.join(", "))
        }
    };
    let top = chain_ids(&config.diff_ids).last().map(ToString::to_string);
    top.with_context(|| format!("{} has no layers, so there is nothing to mount", image.name))
}

/// Whether it is a layer, for counting sizes.
pub(crate) fn size(parts: &Parts) -> u64 {
    let mut seen = std::collections::BTreeMap::<Digest, u64>::new();
    let documents = parts.index.iter().chain(parts.images.iter().flat_map(|(manifest, _, config)| [manifest, config]));
    for document in documents {
        seen.insert(document.descriptor.digest, document.descriptor.size);
    }
    for layer in parts.images.iter().flat_map(|(_, manifest, _)| &manifest.layers) {
        seen.insert(layer.digest, layer.size);
    }
    seen.values().sum()
}

/// The platforms that were pulled.
pub(crate) fn platforms(parts: &Parts) -> Vec<String> {
    parts
        .images
        .iter()
        .filter_map(|(_, _, config)| Config::parse(config.descriptor.digest, &config.bytes).ok())
        .map(|config| config.platform.to_string())
        .collect()
}

/// A document as JSON; its text if it is none.
pub(crate) fn json(document: &Document) -> serde_json::Value {
    serde_json::from_slice(&document.bytes)
        .unwrap_or_else(|_odd| serde_json::Value::String(String::from_utf8_lossy(&document.bytes).into_owned()))
}

/// The word for what a media type is.
pub(crate) fn kind(media_type: &str) -> &'static str {
    MediaType::new(media_type).kind().as_str()
}
