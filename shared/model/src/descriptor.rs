//! A descriptor: what some content is, how long, and by which digest it is known (image-spec, `descriptor.md`).

use std::collections::BTreeMap;

use crate::{Digest, MediaType, Platform};

/// Names content exactly. `size` is in bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are said to be.
    pub media_type: MediaType,
    /// The digest the bytes must have.
    pub digest: Digest,
    /// How many bytes there must be.
    pub size: u64,
    /// Free-form facts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For entries of an index: what the manifest is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor without annotations or platform.
    #[must_use]
    pub fn new(media_type: impl Into<MediaType>, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, annotations: BTreeMap::new(), platform: None }
    }

    /// The name of the ingestion that fetches it: equal content, equal name, one flight.
    #[must_use]
    pub fn ingest_ref(&self) -> String {
        format!("{}-{}", self.media_type.kind().as_str(), self.digest)
    }
}
