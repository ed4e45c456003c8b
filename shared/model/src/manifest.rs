//! Indexes, manifests and configs, read from their JSON and checked once: what a pull needs of them, nothing else.
//!
//! `oci-spec` reads the JSON; OCI and Docker documents have the same shape, so one reader serves both.

use std::collections::BTreeMap;

use crate::{Descriptor, Digest, Kind, MediaType, Platform};

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the shape.
    #[error("{kind} {digest} is not valid: {reason}")]
    Malformed {
        /// `index`, `manifest` or `config`.
        kind: &'static str,
        /// Which one.
        digest: Digest,
        /// What the reader said.
        reason: String,
    },
    /// Its own `mediaType`, or the one it was served under, is not an image's.
    #[error(
        "{digest} has media type {media_type:?}, which is not an image manifest or index; Berth pulls OCI and Docker schema 2 images"
    )]
    UnknownMediaType {
        /// Which one.
        digest: Digest,
        /// What it says it is.
        media_type: String,
    },
    /// Docker schema 1.
    #[error(
        "{digest} is a Docker schema 1 manifest, which is no longer supported; push the image again with a current tool"
    )]
    Schema1 {
        /// Which one.
        digest: Digest,
    },
    /// None of an index's manifests fits.
    #[error("no manifest for platform {wanted} in index {digest}; it has {}", offered.join(", "))]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// The config and the manifest do not belong together.
    #[error(
        "manifest {digest} has {layers} layers but its config {config} has {diff_ids} diff ids; the image is broken at its source"
    )]
    LayerCount {
        /// The manifest.
        digest: Digest,
        /// Its config.
        config: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
}

/// An entry of an index that names a manifest for a platform.
pub type IndexEntry = Descriptor;

/// An image index or Docker manifest list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its own digest.
    pub digest: Digest,
    /// All entries, in order.
    pub manifests: Vec<IndexEntry>,
}

/// An image manifest, OCI or Docker schema 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its own digest.
    pub digest: Digest,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a pull needs of an image configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its own digest.
    pub digest: Digest,
    /// What it runs on.
    pub platform: Platform,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<RawPlatform>,
}

#[derive(serde::Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl From<RawPlatform> for Platform {
    fn from(raw: RawPlatform) -> Self {
        Platform::new(&raw.os, &raw.architecture, raw.variant.as_deref().unwrap_or_default())
    }
}

impl From<RawDescriptor> for Descriptor {
    fn from(raw: RawDescriptor) -> Self {
        Self {
            media_type: MediaType::new(&raw.media_type),
            digest: raw.digest,
            size: raw.size,
            annotations: raw.annotations.unwrap_or_default(),
            platform: raw.platform.map(Platform::from),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(kind: &'static str, digest: Digest, bytes: &[u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|error| ManifestError::Malformed { kind, digest, reason: error.to_string() })
}

impl Index {
    /// Reads an index.
    pub fn parse(digest: Digest, bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(serde::Deserialize)]
        struct Raw {
            manifests: Vec<RawDescriptor>,
        }
        let raw: Raw = parse("index", digest, bytes)?;
        Ok(Self { digest, manifests: raw.manifests.into_iter().map(Descriptor::from).collect() })
    }

    /// The entry that fits the platform best; the earlier one of two that fit equally. Entries without a platform
    /// are taken only when nothing names one, and attestations (platform `unknown/unknown`) never.
    pub fn choose(&self, wanted: &Platform) -> Result<&IndexEntry, ManifestError> {
        let best = self
            .manifests
            .iter()
            .filter_map(|entry| wanted.fit(entry.platform.as_ref()?).map(|fit| (fit, entry)))
            .min_by_key(|(fit, _)| *fit);
        let unnamed = || {
            self.manifests.iter().find(|entry| entry.platform.is_none() && entry.media_type.kind() == Kind::Manifest)
        };
        best.map(|(_, entry)| entry).or_else(unnamed).ok_or_else(|| ManifestError::NoPlatform {
            digest: self.digest,
            wanted: wanted.to_string(),
            offered: match self
                .manifests
                .iter()
                .filter_map(|e| e.platform.as_ref().map(ToString::to_string))
                .collect::<Vec<_>>()
            {
                none if none.is_empty() => vec!["no platforms at all".to_owned()],
                some => some,
            },
        })
    }
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(digest: Digest, bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(serde::Deserialize)]
        struct Raw {
            config: RawDescriptor,
            layers: Vec<RawDescriptor>,
        }
        let raw: Raw = parse("manifest", digest, bytes)?;
        Ok(Self { digest, config: raw.config.into(), layers: raw.layers.into_iter().map(Descriptor::from).collect() })
    }
}

impl Config {
    /// Reads an image configuration.
    pub fn parse(digest: Digest, bytes: &[u8]) -> Result<Self, ManifestError> {
        let image: oci_spec::image::ImageConfiguration = parse("config", digest, bytes)?;
        let diff_ids = image
            .rootfs()
            .diff_ids()
            .iter()
            .map(|text| text.parse::<Digest>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ManifestError::Malformed { kind: "config", digest, reason: error.to_string() })?;
        let platform = Platform::new(
            &image.os().to_string(),
            &image.architecture().to_string(),
            image.variant().as_deref().unwrap_or_default(),
        );
        Ok(Self { digest, platform, diff_ids })
    }

    /// Refuses a config that does not belong to the manifest.
    pub fn check_layers(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        if self.diff_ids.len() == manifest.layers.len() {
            return Ok(());
        }
        Err(ManifestError::LayerCount {
            digest: manifest.digest,
            config: self.digest,
            layers: manifest.layers.len(),
            diff_ids: self.diff_ids.len(),
        })
    }
}

/// What a document is: by the media type it was served under, else by what it says of itself, else by its shape
/// (Docker once left the field away). Anything that is not JSON is malformed.
pub(crate) fn sniff(digest: Digest, served: &MediaType, bytes: &[u8]) -> Result<Kind, ManifestError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        schema_version: Option<u32>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = parse("manifest", digest, bytes)?;
    if served.kind() == Kind::Schema1 || shape.schema_version == Some(1) {
        return Err(ManifestError::Schema1 { digest });
    }
    let said = shape.media_type.as_deref().map(MediaType::new);
    let kind = match (served.kind(), said.as_ref().map(MediaType::kind)) {
        (Kind::Index | Kind::Manifest, None) => served.kind(),
        (Kind::Index | Kind::Manifest, Some(said)) if said == served.kind() => said,
        (Kind::Unknown, Some(said @ (Kind::Index | Kind::Manifest))) => said,
        (Kind::Unknown, None) if shape.manifests.is_some() => Kind::Index,
        (Kind::Unknown, None) if shape.layers.is_some() => Kind::Manifest,
        _ => {
            let media_type = said.unwrap_or_else(|| served.clone());
            return Err(ManifestError::UnknownMediaType { digest, media_type: media_type.to_string() });
        }
    };
    Ok(kind)
}

impl Kind {
    /// What an image document is; see the module's rules. Only [`Kind::Index`] and [`Kind::Manifest`] come back.
    pub fn of_document(digest: Digest, served: &MediaType, bytes: &[u8]) -> Result<Kind, ManifestError> {
        sniff(digest, served, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

    fn d(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn index(platforms: &[Option<&str>]) -> Index {
        let manifests = platforms
            .iter()
            .enumerate()
            .map(|(n, platform)| Descriptor {
                platform: platform.map(|text| text.parse().unwrap()),
                ..Descriptor::new(OCI_MANIFEST, d(n as u8), 1)
            })
            .collect();
        Index { digest: d(255), manifests }
    }

    #[test]
    fn chooses_the_best_platform() {
        let list = index(&[
            Some("linux/arm64"),
            Some("linux/amd64"),
            Some("unknown/unknown"),
            Some("linux/arm/v6"),
            Some("linux/arm/v7"),
        ]);
        for (wanted, chosen) in [("linux/amd64", 1), ("linux/arm64", 0), ("linux/arm/v7", 4), ("linux/arm/v8", 4)] {
            assert_eq!(list.choose(&wanted.parse().unwrap()).unwrap().digest, d(chosen), "{wanted}");
        }
        let error = list.choose(&"windows/amd64".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("windows/amd64") && error.contains("linux/arm64"), "{error}");
        assert_eq!(index(&[None]).choose(&Platform::host()).unwrap().digest, d(0));
    }

    #[test]
    fn reads_docker_and_oci() {
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{}","size":2}},
                "layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"{}","size":3}}]}}"#,
            d(1),
            d(2)
        );
        let read = Manifest::parse(d(0), manifest.as_bytes()).unwrap();
        assert_eq!((read.config.digest, read.config.size, read.layers[0].digest), (d(1), 2, d(2)));
        assert!(Manifest::parse(d(0), b"<html>").unwrap_err().to_string().contains("not valid"));
    }

    #[test]
    fn tells_documents_apart() {
        let cases: &[(&str, &str, Option<Kind>)] = &[
            (OCI_INDEX, r#"{"manifests":[]}"#, Some(Kind::Index)),
            (
                DOCKER_LIST,
                r#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}"#,
                Some(Kind::Index),
            ),
            (DOCKER_MANIFEST, r#"{"layers":[]}"#, Some(Kind::Manifest)),
            ("application/json", r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#, Some(Kind::Manifest)),
            ("", r#"{"manifests":[]}"#, Some(Kind::Index)),
            ("", r#"{"layers":[]}"#, Some(Kind::Manifest)),
            (OCI_MANIFEST, r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#, None),
            ("application/vnd.cncf.helm", "{}", None),
            ("application/vnd.docker.distribution.manifest.v1+json", r#"{"schemaVersion":1}"#, None),
            (OCI_MANIFEST, "no json", None),
        ];
        for (served, body, kind) in cases {
            assert_eq!(sniff(d(0), &MediaType::new(served), body.as_bytes()).ok(), *kind, "{served} {body}");
        }
    }

    #[test]
    fn counts_layers() {
        let manifest =
            Manifest { digest: d(0), config: Descriptor::new("", d(1), 1), layers: vec![Descriptor::new("", d(2), 1)] };
        let config = Config { digest: d(1), platform: Platform::host(), diff_ids: vec![] };
        assert!(config.check_layers(&manifest).unwrap_err().to_string().contains("1 layers but its config"));
    }
}
