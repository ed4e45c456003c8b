//! Platforms: `os/architecture[/variant]`, and which of an index's manifests fits one.

use std::{fmt, str::FromStr};

/// What an image runs on. Normalised: `x86_64` is `amd64`, `aarch64` is `arm64` (variant `v8` is implied there).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Platform {
    /// `linux`, `windows`, ...
    pub os: String,
    /// GOARCH names: `amd64`, `arm64`, `arm`, ...
    pub architecture: String,
    /// `v7`, `v8`, ...; empty when none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: write os/architecture[/variant], such as linux/amd64 or linux/arm/v7")]
pub struct PlatformError(String);

impl Platform {
    /// A platform from its parts, normalised.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", ""),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("powerpc64le", v) => ("ppc64le", v),
            (a, v) => (a, v),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// The platform this program runs on.
    #[must_use]
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, "")
    }

    /// How well `offered` serves a wish for `self`: `None` not at all, otherwise smaller is better.
    /// A newer arm runs code of the older ones, and amd64 `v3` that of `v2`.
    #[must_use]
    pub fn fit(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u32>().ok();
        let default = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            "amd64" => 1,
            _ => return None,
        };
        let wish = if self.variant.is_empty() { default } else { level(&self.variant)? };
        let have = if offered.variant.is_empty() { default } else { level(&offered.variant)? };
        (have <= wish).then(|| wish - have + 1)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        match parts.as_slice() {
            [architecture] if word(architecture) && Platform::new("linux", architecture, "").is_known() => {
                Ok(Platform::new(std::env::consts::OS, architecture, ""))
            }
            [os, architecture] if word(os) && word(architecture) => Ok(Platform::new(os, architecture, "")),
            [os, architecture, variant] if word(os) && word(architecture) && word(variant) => {
                Ok(Platform::new(os, architecture, variant))
            }
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl Platform {
    fn is_known(&self) -> bool {
        ["amd64", "386", "arm64", "arm", "ppc64le", "s390x", "riscv64", "mips64le", "loong64"]
            .contains(&self.architecture.as_str())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_people_write() {
        for (text, canonical) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
        ] {
            assert_eq!(p(text).to_string(), canonical);
        }
        for bad in ["", "linux/", "/amd64", "linux/amd64/v1/x", "linux amd64", "nonsense"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fits_older_variants_and_prefers_the_nearest() {
        assert_eq!(p("linux/arm/v7").fit(&p("linux/arm/v7")), Some(0));
        assert!(p("linux/arm/v7").fit(&p("linux/arm/v6")) < p("linux/arm/v7").fit(&p("linux/arm/v5")));
        assert_eq!(p("linux/arm/v6").fit(&p("linux/arm/v7")), None);
        assert_eq!(p("linux/amd64").fit(&p("linux/arm64")), None);
        assert_eq!(p("linux/amd64").fit(&p("linux/amd64/v3")), None);
        assert!(p("linux/amd64/v3").fit(&p("linux/amd64")).is_some());
    }
}
