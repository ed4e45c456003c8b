//! What containerd's clients say in the headers of a request: the namespace it is about, and the lease it is made under.

use berth_model::{Identifier, Status};
use berth_wire::metadata as msg;
use tonic::metadata::MetadataMap;

use crate::Backend;

const NAMESPACE: &str = "containerd-namespace";
const LEASE: &str = "containerd-lease";

/// The namespace and the lease of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) namespace: String,
    pub(crate) lease: Option<String>,
}

impl Scope {
    /// FAILED_PRECONDITION: no namespace is named. INVALID_ARGUMENT: it cannot be one.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        Self::from_headers(request.metadata())
    }

    fn from_headers(headers: &MetadataMap) -> Result<Self, Status> {
        let text = |name: &str| match headers.get(name).map(|value| value.to_str()) {
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(error)) => Err(Status::invalid_argument(format!("header {name}: {error}"))),
            None => Ok(None),
        };
        let namespace = text(NAMESPACE)?.filter(|name| !name.is_empty());
        let namespace = namespace.ok_or_else(|| Status::failed_precondition("namespace is required"))?;
        let namespace: Identifier = namespace
            .parse()
            .map_err(|error: berth_model::IdentifierError| Status::invalid_argument(format!("namespace: {error}")))?;
        let lease = text(LEASE)?.filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(Self { namespace: namespace.as_str().to_owned(), lease })
    }

    /// Refuses a lease that is not there, before anything is done under it.
    pub(crate) async fn check_lease(&self, backend: &Backend) -> Result<(), Status> {
        let Some(id) = &self.lease else { return Ok(()) };
        let request = msg::GetLeaseRequest { namespace: self.namespace.clone(), id: id.clone() };
        match backend.metadata.get_lease(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(status.context("lease does not exist")),
        }
    }

    /// Puts something under the request's lease, if it has one.
    pub(crate) async fn protect(&self, backend: &Backend, r#type: &str, id: &str) -> Result<(), Status> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let resources = vec![msg::Resource { r#type: r#type.to_owned(), id: id.to_owned() }];
        let request = msg::AddLeaseResourcesRequest { namespace: self.namespace.clone(), id: lease.clone(), resources };
        backend.metadata.add_lease_resources(request).await?;
        Ok(())
    }

    /// Takes something off the request's lease. A lease that is gone is fine.
    pub(crate) async fn let_go(&self, backend: &Backend, r#type: &str, id: &str) {
        let Some(lease) = &self.lease else { return };
        let resources = vec![msg::Resource { r#type: r#type.to_owned(), id: id.to_owned() }];
        let request =
            msg::DeleteLeaseResourcesRequest { namespace: self.namespace.clone(), id: lease.clone(), resources };
        if let Err(status) = backend.metadata.delete_lease_resources(request).await {
            tracing::debug!(%status, lease, r#type, id, "not taken off its lease");
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Code;

    use super::*;

    #[test]
    fn headers_as_a_table() {
        for (headers, expected) in [
            (&[][..], Err(Code::FailedPrecondition)),
            (&[(NAMESPACE, "")], Err(Code::FailedPrecondition)),
            (&[(NAMESPACE, "a b")], Err(Code::InvalidArgument)),
            (&[(NAMESPACE, "k8s.io")], Ok(("k8s.io", None))),
            (&[(NAMESPACE, "first"), (NAMESPACE, "second")], Ok(("first", None))),
            (&[(NAMESPACE, "a"), (LEASE, "l")], Ok(("a", Some("l")))),
            (&[(NAMESPACE, "a"), (LEASE, "")], Ok(("a", None))),
        ] {
            let mut map = MetadataMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let found = Scope::from_headers(&map).map_err(|status| status.code);
            let expected = expected
                .map(|(namespace, lease)| Scope { namespace: namespace.to_owned(), lease: lease.map(str::to_owned) });
            assert_eq!(found, expected, "{headers:?}");
        }
        let missing = Scope::from_headers(&MetadataMap::new()).unwrap_err();
        assert_eq!(missing.message, "namespace is required", "clients look for these words");
    }
}
