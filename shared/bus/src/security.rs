//! How a connection to NATS is secured: what proves the server to us and us to the server. Secrets are in files only.

use std::path::PathBuf;

/// Files, and a user's name. Nothing here is a secret itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsSecurity {
    /// Only servers whose certificate one of these (PEM) has signed are believed; without it, what the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate and those between it and the server's CA (PEM), for servers that want one (mutual TLS).
    pub cert: Option<PathBuf>,
    /// The private key of `cert` (PEM).
    pub key: Option<PathBuf>,
    /// The seed of our nkey (`SU...`).
    pub nkey_file: Option<PathBuf>,
    /// What `nsc` writes for a user: a JWT and a seed.
    pub credentials_file: Option<PathBuf>,
    /// Our name, with `password_file`.
    pub user: Option<String>,
    /// The password of `user`; a line break at its end does not count.
    pub password_file: Option<PathBuf>,
}

impl NatsSecurity {
    /// What does not go together, for a person; `None` if all is well.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if self.cert.is_some() != self.key.is_some() {
            return Some("a client certificate needs both cert and key");
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Some("a user needs both user and password_file");
        }
        let ways = [self.nkey_file.is_some(), self.credentials_file.is_some(), self.user.is_some()];
        (ways.iter().filter(|given| **given).count() > 1)
            .then_some("nkey_file, credentials_file and user exclude one another")
    }

    /// Whether the server knows who we are, and may permit us less than everything.
    pub(crate) fn proves_identity(&self) -> bool {
        self.nkey_file.is_some() || self.credentials_file.is_some() || self.user.is_some() || self.cert.is_some()
    }

    /// Whether the connection has to be encrypted, whatever the URL and the server say.
    pub(crate) fn wants_tls(&self) -> bool {
        self.ca.is_some() || self.cert.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_rivals_are_refused() {
        let file = || Some(PathBuf::from("x"));
        let none = NatsSecurity::default();
        assert_eq!(none.fault(), None);
        let whole = NatsSecurity { cert: file(), key: file(), nkey_file: file(), ..none.clone() };
        assert_eq!(whole.fault(), None);
        for bad in [
            NatsSecurity { cert: file(), ..none.clone() },
            NatsSecurity { key: file(), ..none.clone() },
            NatsSecurity { password_file: file(), ..none.clone() },
            NatsSecurity { user: Some("u".into()), ..none.clone() },
            NatsSecurity { nkey_file: file(), credentials_file: file(), ..none.clone() },
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }
}
