//! Host names to addresses, with an error type of our own so that "no such host" is told from other failures.

use std::{io, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name that the resolver could not turn into addresses.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub(crate) struct LookupError {
    name: String,
    source: io::Error,
}

/// The system's resolver, after a table of fixed names.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) fixed: Vec<(String, SocketAddr)>,
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let fixed: Vec<_> = self
            .fixed
            .iter()
            .filter(|(host, _)| host.eq_ignore_ascii_case(&name))
            // The port of the URL is used when this one is 0.
            .map(|(_, address)| SocketAddr::new(address.ip(), 0))
            .collect();
        Box::pin(async move {
            if !fixed.is_empty() {
                return Ok(Box::new(fixed.into_iter()) as Addrs);
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map(|found| found.collect::<Vec<_>>());
            match found {
                Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
                Err(source) => Err(LookupError { name, source }.into()),
            }
        })
    }
}
