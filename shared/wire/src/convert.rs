//! From and to the model. What comes from the wire is checked here, once.

use berth_model::{Descriptor, Digest, MediaType, Platform, Status};

use crate::{metadata, types};

impl From<&Descriptor> for types::Descriptor {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.to_string(),
            digest: descriptor.digest.to_string(),
            size: descriptor.size,
            annotations: descriptor.annotations.clone(),
            platform: descriptor.platform.as_ref().map(types::Platform::from),
        }
    }
}

impl From<&Platform> for types::Platform {
    fn from(platform: &Platform) -> Self {
        Self { os: platform.os.clone(), architecture: platform.architecture.clone(), variant: platform.variant.clone() }
    }
}

impl From<&types::Platform> for Platform {
    fn from(platform: &types::Platform) -> Self {
        Platform::new(&platform.os, &platform.architecture, &platform.variant)
    }
}

impl TryFrom<&types::Descriptor> for Descriptor {
    type Error = Status;

    fn try_from(wire: &types::Descriptor) -> Result<Self, Status> {
        Ok(Self {
            media_type: MediaType::new(&wire.media_type),
            digest: digest(&wire.digest)?,
            size: wire.size,
            annotations: wire.annotations.clone(),
            platform: wire.platform.as_ref().map(Platform::from),
        })
    }
}

/// Reads a digest of a request.
pub fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|error: berth_model::DigestError| Status::invalid_argument(error.to_string()))
}

/// A field that a message must have.
pub fn required<'a, T>(field: Option<&'a T>, name: &str) -> Result<&'a T, Status> {
    field.ok_or_else(|| Status::invalid_argument(format!("{name} is missing in the request")))
}

impl From<std::time::SystemTime> for types::Time {
    fn from(time: std::time::SystemTime) -> Self {
        let jiff = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self { seconds: jiff.as_second(), nanos: u32::try_from(jiff.subsec_nanosecond()).unwrap_or(0) }
    }
}

impl types::Time {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        std::time::SystemTime::now().into()
    }

    /// Milliseconds since 1970; for comparing.
    #[must_use]
    pub fn millis(&self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos / 1_000_000))
    }
}

impl std::fmt::Display for types::Time {
    /// RFC 3339, UTC.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::new(self.seconds, i32::try_from(self.nanos).unwrap_or(0)) {
            Ok(time) => write!(f, "{time}"),
            Err(_out_of_range) => write!(f, "{}s", self.seconds),
        }
    }
}

impl metadata::snapshot::Kind {
    /// The word containerd uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}
