//! Identifiers: names of namespaces and the parts of event topics.

use std::{fmt, str::FromStr};

/// A name as containerd allows it: letters and digits, single `.`, `_` or `-` between them, at most 76 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(String);

/// The text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid name: use letters and digits, with single '.', '_' or '-' between them, at most 76 characters"
)]
pub struct IdentifierError(String);

impl Identifier {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Identifier {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        let error = || IdentifierError(text.chars().take(100).collect());
        if text.is_empty() || text.len() > 76 {
            return Err(error());
        }
        for part in text.split(['.', '_', '-']) {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(error());
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rule() {
        for good in ["default", "k8s.io", "a", "A-1_b.c", &"x".repeat(76)] {
            assert!(good.parse::<Identifier>().is_ok(), "{good:?}");
        }
        for bad in ["", "-a", "a-", "a..b", "a/b", "a b", "ü", "..", &"x".repeat(77)] {
            assert!(bad.parse::<Identifier>().is_err(), "{bad:?}");
        }
    }
}
