//! A containerd that keeps its content here, as the plugin of its metadata store.
//!
//! Its namespaces are inside its refs (`NAMESPACE/NUMBER/REF`), it shares blobs between them as it likes, it collects its
//! own garbage, and asks for that without any namespace. So what comes from it is kept in one namespace, as roots of our
//! collection, and what it reads is looked for there too.

use berth_model::{Code, Status, labels::Labels};
use berth_wire::metadata::{Content, GetContentRequest, ListNamespacesRequest};
use tonic::Request;

use super::Scope;
use crate::Backend;

/// What is kept for containerds.
pub(super) const NAMESPACE: &str = "containerd-plugin";
/// Says that a thing is kept by itself.
pub(super) const ROOT: &str = "containerd.io/gc.root";
/// What the label says.
const WHY: &str = "containerd";

/// Where a plugin's things are.
fn scope() -> Scope {
    Scope { namespace: NAMESPACE.to_owned(), lease: None }
}

/// The scope of a request; one that names no namespace is a containerd's, if any keeps content here.
pub(super) async fn scope_of<T>(backend: &Backend, request: &Request<T>) -> Result<Scope, Status> {
    match Scope::of(request) {
        Err(status) if status.code == Code::FailedPrecondition => {
            // In order of their names: if it is there, it is in the page that begins just before.
            let before = NAMESPACE.get(..NAMESPACE.len() - 1).unwrap_or_default().to_owned();
            let request = ListNamespacesRequest { after: before, ..ListNamespacesRequest::default() };
            let known = backend.metadata.list_namespaces(request).await?;
            if known.namespaces.iter().any(|known| known.name == NAMESPACE) { Ok(scope()) } else { Err(status) }
        }
        found => found,
    }
}

/// The scope of a request about a ref: of what it asks, or of the plugin.
pub(super) fn scope_of_ref(asked: Result<Scope, Status>, reference: &str) -> Result<Scope, Status> {
    let namespace = asked.as_ref().ok().map(|asked| asked.namespace.as_str());
    if is_of_plugin(namespace, reference) { Ok(scope()) } else { asked }
}

/// Whether a ref is one that containerd's metadata store makes of a client's, of this namespace or of any.
fn is_of_plugin(namespace: Option<&str>, reference: &str) -> bool {
    let mut parts = reference.splitn(3, '/');
    let (Some(first), Some(number), Some(_)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let named = namespace.map_or(!first.is_empty(), |namespace| namespace == first);
    named && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A blob's record, and the namespace that has it: the one that was asked for, or the plugins'.
pub(super) async fn find(backend: &Backend, namespace: String, digest: &str) -> Result<(String, Content), Status> {
    let get = |namespace: &str| GetContentRequest { namespace: namespace.to_owned(), digest: digest.to_owned() };
    match backend.metadata.get_content(get(&namespace)).await {
        Err(status) if status.code == Code::NotFound && namespace != NAMESPACE => {
            let there = backend.metadata.get_content(get(NAMESPACE)).await;
            there.map(|record| (NAMESPACE.to_owned(), record)).map_err(|_nor_there| status)
        }
        found => found.map(|record| (namespace, record)),
    }
}

/// Labels of a blob as they are recorded.
pub(super) fn stored(namespace: &str, mut labels: Labels) -> Labels {
    if namespace == NAMESPACE {
        labels.insert(ROOT.to_owned(), WHY.to_owned());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_told_apart() {
        for (namespace, reference, expected) in [
            (Some("default"), "default/1/layer-sha256:abc", true),
            (Some("default"), "default/12/a/b", true),
            (Some("default"), "default/layer", false),
            (Some("default"), "default/1", false),
            (Some("default"), "default//x", false),
            (Some("default"), "other/1/x", false),
            (Some("default"), "layer-sha256:abc", false),
            (Some(NAMESPACE), "default/1/x", false),
            (None, "default/1/x", true),
            (None, "layer/x", false),
            (None, "/1/x", false),
        ] {
            assert_eq!(is_of_plugin(namespace, reference), expected, "{namespace:?} {reference}");
        }
    }
}
