//! Where the NATS server is, what this process is called there, and how long to wait for it.

use std::fmt;
use std::time::Duration;

use crate::security::NatsSecurity;

/// How to reach NATS. Credentials may ride in the URL (`nats://user:password@host`); they are never shown or logged.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://host:4222`; several servers of one cluster are separated by commas.
    pub url: String,
    /// Begins every subject and, in upper case, every stream's name; tells deployments on one server apart. One or more
    /// parts between dots (`berth.prod.node-7`), of lower-case letters, digits and `-`.
    pub prefix: String,
    /// The service this process is. Answers come to an inbox of its own, so that nobody else may listen to them.
    pub role: String,
    /// What proves the server to us and us to the server.
    pub security: NatsSecurity,
    /// On how many servers of a cluster each stream is, when it is made: 1, 3 or 5. With 3 any one server may be lost.
    pub replicas: usize,
    /// What the server shows as the name of this connection.
    pub name: String,
    /// How long to wait for the server at the start, and for a service or a worker to appear.
    pub wait: Duration,
    /// The time limit of a call that names none.
    pub request_timeout: Duration,
}

impl NatsOptions {
    /// The defaults: prefix `berth`; 30 s (a cluster that lost its leader resumes in 3 to 7 s, and a service that is
    /// being restarted is back well within that).
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: DEFAULT_PREFIX.to_owned(),
            role: "any".to_owned(),
            security: NatsSecurity::default(),
            replicas: 1,
            name: name.into(),
            wait: DEFAULT_WAIT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
        }
    }

    /// The URL as it may be shown to anyone.
    pub(crate) fn shown_url(&self) -> String {
        redacted(&self.url)
    }
}

/// The default of [`NatsOptions::prefix`].
pub const DEFAULT_PREFIX: &str = "berth";
/// The default of [`NatsOptions::wait`], also in-process.
pub(crate) const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The default of [`NatsOptions::request_timeout`], also in-process.
pub(crate) const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("url", &self.shown_url())
            .field("prefix", &self.prefix)
            .field("role", &self.role)
            .field("security", &self.security)
            .field("name", &self.name)
            .field("wait", &self.wait)
            .field("request_timeout", &self.request_timeout)
            .finish()
    }
}

/// `urls` without user names, passwords and tokens. Everything before the last `@` of each goes, so that a password
/// with an unescaped `@` or `/` in it does not slip through.
fn redacted(urls: &str) -> String {
    let one = |url: &str| {
        let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
    };
    urls.split(',').map(|url| one(url.trim())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        for (url, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://user:secret@host:4222", "nats://host:4222"),
            ("nats://s3cr3t-token@host", "nats://host"),
            ("user:secret@host", "host"),
            ("nats://u:se@cret@host", "nats://host"),
            ("nats://u:se/cret@host", "nats://host"),
            ("nats://u:p@a, tls://u:p@b:1", "nats://a,tls://b:1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(redacted(url), shown);
            assert!(!format!("{:?}", NatsOptions::new(url, "x")).contains("secret"));
        }
    }
}
