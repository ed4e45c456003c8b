//! Image references as people write them (distribution/reference grammar), made whole: `alpine` means
//! `docker.io/library/alpine:latest`.

use std::{fmt, str::FromStr};

use crate::Digest;

/// A whole reference: registry, repository and a tag, a digest, or both (the digest then decides).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

const MAX_NAME: usize = 255;

impl Reference {
    /// `host[:port]`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given (or `latest` when neither tag nor digest was).
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    #[must_use]
    pub fn object(&self) -> String {
        self.digest.map_or_else(|| self.tag.clone().unwrap_or_default(), |digest| digest.to_string())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| ReferenceError { text: text.chars().take(300).collect(), reason: reason.to_owned() };
        if text.trim() != text || text.is_empty() {
            return Err(fail("it is empty or has spaces around it"));
        }
        if text.contains("://") {
            return Err(fail("leave the scheme away (use --plain-http for http)"));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| fail(&error.to_string()))?)),
        };
        let (first, remainder) = match rest.split_once('/') {
            Some((first, remainder)) if is_host(first) => (Some(first), remainder),
            _ => (None, rest),
        };
        let (path, tag) = match remainder.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail(
                "the tag must be 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'",
            ));
        }
        let registry = match first {
            None | Some("index.docker.io" | "registry-1.docker.io") => "docker.io",
            Some(host) if is_registry(host) => host,
            Some(_) => {
                return Err(fail("the registry must be a host name or address with an optional port"));
            }
        };
        let repository =
            if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if path.is_empty() || !path.split('/').all(is_component) {
            return Err(fail(if path.bytes().any(|b| b.is_ascii_uppercase()) {
                "repository names are lower case"
            } else {
                "the repository must be parts of a-z and 0-9, joined by '.', '_', '__' or '-', separated by '/'"
            }));
        }
        if repository.len() > MAX_NAME {
            return Err(fail("the repository is longer than 255 characters"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// The first part is a host if it could not be part of a repository: it has a dot, a port, upper case, or is localhost.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '[']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_registry(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match (rest, rest.strip_prefix(':')) {
                ("", _) => return true,
                (_, Some(port)) => ("v6", Some(port)),
                _ => return false,
            }
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| alnum(*first) && alnum(*last));
    ends && part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_short_names_whole() {
        let digest = Digest::of(b"x");
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("alpine:3.20", "docker.io/library/alpine:3.20".to_owned()),
            ("foo/bar", "docker.io/foo/bar:latest".to_owned()),
            ("docker.io/alpine", "docker.io/library/alpine:latest".to_owned()),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("host:5000/a/b:c", "host:5000/a/b:c".to_owned()),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            ("ghcr.io/x/y__z-q.r", "ghcr.io/x/y__z-q.r:latest".to_owned()),
            (&format!("host:5000/a/b@{digest}"), format!("host:5000/a/b@{digest}")),
            (&format!("a/b:t@{digest}"), format!("docker.io/a/b:t@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(reference.to_string(), whole);
            assert_eq!(whole.parse::<Reference>().unwrap(), reference, "{whole} is stable");
        }
    }

    #[test]
    fn the_digest_decides() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("a:t@{digest}").parse().unwrap();
        assert_eq!(reference.object(), digest.to_string());
        assert_eq!("a:t".parse::<Reference>().unwrap().object(), "t");
    }

    #[test]
    fn refuses_with_a_reason() {
        for bad in [
            "",
            " a",
            "A",
            "a/B",
            "https://a/b",
            "a:",
            "a:.x",
            "a//b",
            "a/",
            "/a",
            "a@sha256:zz",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "host:x/a",
            "host:0/a",
            "ho_st.x/a",
            "../a",
            "a/../b",
            "a b",
            "[::zz]:1/a",
            "a:b:c",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
        assert!("Foo".parse::<Reference>().unwrap_err().to_string().contains("lower case"));
        assert!(format!("a/{}", "b".repeat(256)).parse::<Reference>().is_err());
    }
}
