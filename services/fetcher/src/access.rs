//! Who asks a registry, and over what: credentials that never show themselves.

use std::fmt;

use sha2::Digest as _;

/// How to reach a registry and who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// None: anonymous.
    pub credentials: Option<Credentials>,
    /// Speak HTTP instead of HTTPS.
    pub plain_http: bool,
}

impl Access {
    /// Without credentials.
    #[must_use]
    pub fn anonymous(plain_http: bool) -> Self {
        Self { credentials: None, plain_http }
    }

    /// With a user and a password, or a token as Docker keeps it (no user, or the user `<token>`).
    #[must_use]
    pub fn with_user(username: &str, secret: &str, plain_http: bool) -> Self {
        Self {
            credentials: (!username.is_empty() || !secret.is_empty())
                .then(|| Credentials { username: username.to_owned(), secret: secret.to_owned() }),
            plain_http,
        }
    }

    /// Tells equal askers apart from others without keeping the secret itself.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = sha2::Sha256::new();
        if let Some(credentials) = &self.credentials {
            hash.update((credentials.username.len() as u64).to_le_bytes());
            hash.update(&credentials.username);
            hash.update(&credentials.secret);
        }
        hash.finalize().into()
    }
}

/// A user name and a secret. Its `Debug` hides the secret; it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    secret: String,
}

impl Credentials {
    /// The user name, for people.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Docker keeps an identity token with the user `<token>`, or with none.
    pub(crate) fn is_identity_token(&self) -> bool {
        self.username.is_empty() || self.username == "<token>"
    }

    /// Who this is, for an error.
    pub(crate) fn shown(&self) -> String {
        if self.is_identity_token() { "the given token".to_owned() } else { format!("user {}", self.username) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("secret", &"(hidden)").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let access = Access::with_user("me", "s3cr3t", false);
        assert!(!format!("{access:?}").contains("s3cr3t"));
        assert!(format!("{access:?}").contains("me"));
        assert_eq!(Access::with_user("", "", true), Access::anonymous(true));
    }

    #[test]
    fn fingerprints_tell_askers_apart() {
        let of = |user, secret| Access::with_user(user, secret, false).fingerprint();
        assert_eq!(of("a", "b"), of("a", "b"));
        assert_ne!(of("a", "bc"), of("ab", "c"));
        assert_ne!(of("a", "b"), Access::anonymous(false).fingerprint());
    }
}
