//! Whether a namespace may have the bytes of another one without sending them.

use berth_model::{Code, Digest, Status};
use berth_wire::{content::StatBlobRequest, metadata as msg};

use super::Scope;
use crate::{Backend, Sharing};

/// Namespaces with this label, set to "true", lend their blobs also where nothing else is shared.
const SHAREABLE: &str = "containerd.io/namespace.shareable";

/// The blob, if others have it and lend it.
pub(super) async fn lent(
    backend: &Backend,
    scope: &Scope,
    digest: &Digest,
    total: u64,
) -> Result<Option<(Digest, u64)>, Status> {
    let Some(size) = stored(backend, digest).await? else { return Ok(None) };
    if (total != 0 && total != size) || !may_share(backend, digest).await? {
        return Ok(None);
    }
    scope.protect(backend, "content", &digest.to_string()).await?;
    // It may have gone before the lease had it.
    Ok(stored(backend, digest).await?.map(|size| (*digest, size)))
}

async fn stored(backend: &Backend, digest: &Digest) -> Result<Option<u64>, Status> {
    match backend.content.stat_blob(StatBlobRequest { digest: digest.to_string() }).await {
        Ok(found) => Ok(Some(found.size)),
        Err(status) if status.code == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Knowing a digest is enough where all is shared; otherwise one that has the blob must lend it.
async fn may_share(backend: &Backend, digest: &Digest) -> Result<bool, Status> {
    if backend.info.sharing == Sharing::Shared {
        return Ok(true);
    }
    let mut after = String::new();
    loop {
        let list = msg::ListNamespacesRequest { after, limit: 0 };
        let page = backend.metadata.list_namespaces(list).await?;
        let lenders =
            page.namespaces.iter().filter(|found| found.labels.get(SHAREABLE).is_some_and(|text| text == "true"));
        for lender in lenders {
            let get = msg::GetContentRequest { namespace: lender.name.clone(), digest: digest.to_string() };
            match backend.metadata.get_content(get).await {
                Ok(_) => return Ok(true),
                Err(status) if status.code == Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        match page.namespaces.last().filter(|_| page.more) {
            Some(last) => after = last.name.clone(),
            None => return Ok(false),
        }
    }
}
