//! The registry client: what all requests share.

use std::sync::Arc;

use berth_model::Status;
use http::Method;
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    auth::vault::Vault,
    endpoint::{Remembered, Scheme, api_host, base, scheme},
    errand::Errand,
    failure::FailureKind,
    options::ClientOptions,
    retry::Pace,
    transport::{Hop, Transport},
};

/// Talks to registries. One for all pulls: connections, tokens and pauses are shared.
pub struct RegistryClient {
    pub(crate) options: ClientOptions,
    pub(crate) transport: Transport,
    pub(crate) vault: Vault,
    pub(crate) pace: Pace,
    pub(crate) schemes: Remembered,
    /// For large blobs; see [`ClientOptions::large_downloads`].
    pub(crate) places: Arc<Semaphore>,
}

impl std::fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryClient").field("options", &self.options).finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// A client without any connection yet. Fails only when TLS cannot be set up.
    pub fn new(options: ClientOptions) -> Result<Self, Status> {
        Ok(Self {
            transport: Transport::new(options.clone())?,
            vault: Vault::default(),
            pace: Pace::default(),
            schemes: Remembered::default(),
            places: Arc::new(Semaphore::new(options.large_downloads)),
            options,
        })
    }

    /// The root of the registry's API. A loopback host is asked once which scheme it speaks.
    pub(crate) async fn base(&self, errand: &Errand<'_>) -> Result<Url, Status> {
        let host = api_host(errand.reference.registry());
        match scheme(host, errand.access.plain_http) {
            Scheme::Https => return base(host, true),
            Scheme::Http => return base(host, false),
            Scheme::Probe => {}
        }
        if let Some(https) = self.schemes.get(host) {
            return base(host, https);
        }
        let root = base(host, true)?;
        let probe = Hop::new(Method::GET, root.clone());
        let https = match tokio::time::timeout(self.options.probe_timeout, self.transport.once(&probe)).await {
            Ok(Ok(_)) => true,
            Err(_elapsed) => false,
            Ok(Err(failure)) => match failure.kind {
                // Some servers hang up on a TLS hello, some answer it in HTTP. Without a port nobody may listen on 443
                // and somebody on 80.
                FailureKind::NotTls | FailureKind::Broken => false,
                FailureKind::Refused if root.port().is_none() => false,
                // Not an answer to this question; the request itself will say what is wrong.
                _ => return Ok(root),
            },
        };
        self.schemes.set(host, https);
        base(host, https)
    }
}
