//! Media types: what a descriptor says its bytes are, sorted into the few kinds a pull treats differently.

use std::fmt;

/// OCI image index (image-spec, `image-index.md`).
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest (image-spec, `manifest.md`).
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image configuration (image-spec, `config.md`).
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker manifest list (distribution, `manifest-v2-2.md`).
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

const DOCKER_SCHEMA_1: &[&str] = &[
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// What to do with the bytes of a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A list of manifests.
    Index,
    /// One image for one platform.
    Manifest,
    /// The image configuration.
    Config,
    /// A file system layer; how it is compressed is told by its bytes, not by this name.
    Layer,
    /// Docker's first manifest format: refused.
    Schema1,
    /// Anything else.
    Unknown,
}

impl Kind {
    /// The word for it, also the prefix of ingest references.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Index => "index",
            Kind::Manifest | Kind::Schema1 => "manifest",
            Kind::Config => "config",
            Kind::Layer => "layer",
            Kind::Unknown => "unknown",
        }
    }
}

/// A media type as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

impl MediaType {
    /// Takes the text of a header or a descriptor; parameters (`; charset=...`) are dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split(';').next().unwrap_or_default().trim().to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What to do with such bytes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let text = self.0.as_str();
        match text {
            OCI_INDEX | DOCKER_LIST => Kind::Index,
            OCI_MANIFEST | DOCKER_MANIFEST => Kind::Manifest,
            OCI_CONFIG | DOCKER_CONFIG => Kind::Config,
            _ if DOCKER_SCHEMA_1.contains(&text) => Kind::Schema1,
            _ if text.starts_with("application/vnd.oci.image.layer.")
                || text.starts_with("application/vnd.docker.image.rootfs.") =>
            {
                Kind::Layer
            }
            _ => Kind::Unknown,
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_the_known_ones() {
        for (text, kind) in [
            (OCI_INDEX, Kind::Index),
            (DOCKER_LIST, Kind::Index),
            (OCI_MANIFEST, Kind::Manifest),
            (DOCKER_MANIFEST, Kind::Manifest),
            (OCI_CONFIG, Kind::Config),
            (DOCKER_CONFIG, Kind::Config),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Kind::Layer),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Kind::Layer),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Kind::Layer),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Kind::Layer),
            ("application/vnd.docker.distribution.manifest.v1+prettyjws", Kind::Schema1),
            ("text/plain; charset=utf-8", Kind::Unknown),
        ] {
            assert_eq!(MediaType::new(text).kind(), kind, "{text}");
        }
    }
}
