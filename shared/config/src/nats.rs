//! Settings of the bus between processes: where NATS is, what begins our subjects there, and what proves who is who.

use std::path::PathBuf;

/// How to reach NATS. Secrets are in files of their own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
    /// `nats://host:4222` or `tls://...`; several servers of one cluster are separated by commas.
    pub url: Option<String>,
    /// Begins every subject and the names of streams, so that several Berths can share one NATS: `berth.CLUSTER.NODE`.
    pub prefix: String,
    /// On how many servers of a cluster each stream is made: 1, 3 or 5.
    pub replicas: usize,
    /// Only a server whose certificate one of these (PEM) has signed is believed; without it, what the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM), for servers that want one.
    pub cert: Option<PathBuf>,
    /// The private key of `cert` (PEM).
    pub key: Option<PathBuf>,
    /// Holds the seed of our nkey.
    pub nkey_file: Option<PathBuf>,
    /// Holds JWT and seed of our user, as `nsc` writes it.
    pub credentials_file: Option<PathBuf>,
    /// Our name, with `password_file`.
    pub user: Option<String>,
    /// Holds the password of `user`.
    pub password_file: Option<PathBuf>,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "berth".to_owned(),
            replicas: 1,
            ca: None,
            cert: None,
            key: None,
            nkey_file: None,
            credentials_file: None,
            user: None,
            password_file: None,
        }
    }
}
