//! Content digests (OCI image-spec, `descriptor.md#digests`).

use std::{fmt, str::FromStr};

use sha2::Digest as _;

/// The digest of some bytes: `sha256:<64 hex>`.
///
/// Only sha256 is stored and verified: it is the one algorithm every registry serves, and the spec makes it the one
/// that implementations must support. Ordered by its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `ALGORITHM:HEX`.
    #[error("{0:?} is not a digest: it should read sha256:<64 hex digits>")]
    Malformed(String),
    /// A registered algorithm Berth does not verify.
    #[error("digest {0:?}: algorithm is not supported, only sha256 is")]
    Algorithm(String),
}

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A digest from the 32 bytes of a finished sha256.
    #[must_use]
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }

    /// The raw 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(text.chars().take(140).collect());
        let (algorithm, digits) = text.split_once(':').ok_or_else(malformed)?;
        match algorithm {
            "sha256" => {}
            "sha512" | "sha384" | "blake3" => {
                return Err(DigestError::Algorithm(text.chars().take(140).collect()));
            }
            _ => return Err(malformed()),
        }
        if digits.len() != 64 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(malformed());
        }
        let mut raw = [0_u8; 32];
        hex::decode_to_slice(digits, &mut raw).map_err(|_not_hex| malformed())?;
        Ok(Self(raw))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_and_writes() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = EMPTY.to_uppercase();
        for bad in ["", "sha256", "sha256:", "sha256:zz", "md5:abcd", &EMPTY[..70], &upper, "../../etc/passwd"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
        assert!(matches!(format!("sha512:{}", "a".repeat(128)).parse::<Digest>(), Err(DigestError::Algorithm(_))));
    }
}
