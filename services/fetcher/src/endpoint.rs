//! Where a registry's API is: host, scheme, and the paths below it.

use std::{collections::HashMap, net::IpAddr, sync::Mutex};

use berth_model::{Reference, Status};
use url::Url;

/// Loopback hosts whose scheme is remembered; more than anybody runs, and a bound all the same.
const MAX_REMEMBERED: usize = 256;

/// What is known before anybody was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Http,
    /// A loopback host: HTTPS if it speaks it, else HTTP, as containerd does.
    Probe,
}

/// `docker.io` is a name; its API is elsewhere.
pub(crate) fn api_host(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// Whether the host (with or without a port) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The scheme for a registry host.
pub(crate) fn scheme(host: &str, plain_http: bool) -> Scheme {
    if plain_http {
        Scheme::Http
    } else if is_loopback(host) {
        Scheme::Probe
    } else {
        Scheme::Https
    }
}

/// The root of a host's API.
pub(crate) fn base(host: &str, https: bool) -> Result<Url, Status> {
    let scheme = if https { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{host}/v2/"))
        .map_err(|error| Status::invalid_argument(format!("{host} is no registry host: {error}")))
}

/// `BASE/REPOSITORY/COLLECTION/OBJECT`; the parts come checked, from [`Reference`] and `Digest`.
pub(crate) fn object_url(base: &Url, reference: &Reference, collection: &str, object: &str) -> Result<Url, Status> {
    base.join(&format!("{}/{collection}/{object}", reference.repository()))
        .map_err(|error| Status::internal(format!("URL of {reference}: {error}")))
}

/// What loopback hosts were found to speak.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<String, bool>>);

impl Remembered {
    /// Whether the host speaks HTTPS, if that is known.
    pub(crate) fn get(&self, host: &str) -> Option<bool> {
        self.lock().get(host).copied()
    }

    pub(crate) fn set(&self, host: &str, https: bool) {
        let mut known = self.lock();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(host.to_owned(), https);
    }

    /// A host that failed may be another server next time.
    pub(crate) fn forget(&self, host: &str) {
        self.lock().remove(host);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts() {
        for (host, yes) in [
            ("localhost", true),
            ("LOCALHOST:5000", true),
            ("reg.localhost:80", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
            ("[fe80::1]:1", false),
        ] {
            assert_eq!(is_loopback(host), yes, "{host}");
        }
        assert_eq!(scheme("127.0.0.1:1", true), Scheme::Http);
        assert_eq!(scheme("127.0.0.1:1", false), Scheme::Probe);
        assert_eq!(scheme("quay.io", false), Scheme::Https);
    }

    #[test]
    fn urls() {
        let reference: Reference = "alpine:3".parse().unwrap();
        let base = base(api_host(reference.registry()), true).unwrap();
        assert_eq!(
            object_url(&base, &reference, "manifests", &reference.object()).unwrap().as_str(),
            "https://registry-1.docker.io/v2/library/alpine/manifests/3"
        );
    }
}
