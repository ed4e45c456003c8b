//! How a digest is held while its blob becomes content of a namespace: by the lease of whoever asked, or by one of our
//! own. Between the commit of a blob and its record nobody else could tell that it is wanted, and a collection would
//! delete it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_model::{Code, Digest, Status};
use berth_wire::metadata as msg;

use crate::metadata::Metadata;

/// The life of a lease of our own, should we die before we end it.
const OWN_LEASE_SECONDS: u64 = 600;
/// A condemnation lasts 40 s at most; longer than this nothing is waited for.
const BUSY_LIMIT: Duration = Duration::from_secs(40);
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LAST_WAIT: Duration = Duration::from_millis(500);

/// A digest that nobody deletes.
pub struct Holding {
    metadata: Arc<dyn Metadata>,
    namespace: String,
    lease: String,
    own: bool,
}

impl Holding {
    /// Puts the digest under the lease, or under a new one if that is empty. Waits for the end of a deletion of the same
    /// digest.
    pub async fn begin(
        metadata: Arc<dyn Metadata>,
        namespace: &str,
        lease: &str,
        digest: &Digest,
    ) -> Result<Self, Status> {
        let own = lease.is_empty();
        let lease = if own {
            let request = msg::CreateLeaseRequest {
                namespace: namespace.to_owned(),
                expires_in_seconds: OWN_LEASE_SECONDS,
                ..msg::CreateLeaseRequest::default()
            };
            metadata.create_lease(request).await?.id
        } else {
            lease.to_owned()
        };
        let holding = Self { metadata, namespace: namespace.to_owned(), lease, own };
        match holding.add(digest).await {
            Ok(()) => Ok(holding),
            Err(status) => {
                holding.end().await;
                Err(status)
            }
        }
    }

    async fn add(&self, digest: &Digest) -> Result<(), Status> {
        let request = msg::AddLeaseResourcesRequest {
            namespace: self.namespace.clone(),
            id: self.lease.clone(),
            resources: vec![msg::Resource { r#type: "content".to_owned(), id: digest.to_string() }],
        };
        while_busy(|| self.metadata.add_lease_resources(request.clone())).await.map(drop)
    }

    /// Ends a lease of our own; another's goes on to hold.
    pub async fn end(self) {
        if !self.own {
            return;
        }
        let request = msg::DeleteLeaseRequest { namespace: self.namespace, id: self.lease };
        if let Err(status) = self.metadata.delete_lease(request).await {
            tracing::debug!(%status, "a lease stays until it ends by itself");
        }
    }
}

/// Asks again while the answer is UNAVAILABLE: a digest is being deleted, and will be free.
pub async fn while_busy<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        match call().await {
            Err(status) if status.code == Code::Unavailable && begun.elapsed() < BUSY_LIMIT => {
                tracing::debug!(%status, "trying again");
                tokio::time::sleep(wait).await;
                wait = LAST_WAIT.min(wait * 2);
            }
            done => return done,
        }
    }
}
