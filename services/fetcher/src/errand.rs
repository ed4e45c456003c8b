//! What is being asked of whom, in the words that errors use.

use std::fmt;

use berth_model::{Digest, Reference};
use url::Url;

use crate::access::Access;

/// One object wanted of one repository, and who wants it. Its `Display` names object, repository and registry.
#[derive(Clone, Debug)]
pub(crate) struct Errand<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) access: &'a Access,
    pub(crate) object: Object,
}

#[derive(Clone, Debug)]
pub(crate) enum Object {
    /// Whatever the reference names.
    Target,
    /// A manifest by its digest.
    Manifest(Digest),
    /// A blob by its digest.
    Blob(Digest),
}

impl fmt::Display for Errand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        match &self.object {
            Object::Target => write!(f, "{}", self.reference),
            Object::Manifest(digest) => write!(f, "manifest {digest} of {registry}/{repository}"),
            Object::Blob(digest) => write!(f, "blob {digest} of {registry}/{repository}"),
        }
    }
}

/// A URL without what may be secret: user, password, query (presigned URLs sign there) and fragment.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Host and port, for errors and for telling servers apart.
pub(crate) fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        let url: Url = "https://u:p@cdn.example:8443/x/y?X-Amz-Signature=abc#f".parse().unwrap();
        assert_eq!(shown(&url), "https://cdn.example:8443/x/y");
        assert_eq!(authority(&url), "cdn.example:8443");
    }
}
