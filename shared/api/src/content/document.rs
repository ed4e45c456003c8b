//! Reads indexes, manifests and configs out of the content store: small, whole, and checked against their digest again.

use std::{
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use berth_model::{Descriptor, Digest, Status};
use berth_wire::content::{WatchBlobRequest, watch_blob_reply::State};

use super::{BlobReader, Content, reader::POLL_MS};

/// No document is larger (containerd refuses manifests over 4 MiB; configs with long histories are smaller than this too).
const MAX_BYTES: u64 = 8 << 20;

/// The bytes of a committed document.
pub async fn read_document(content: &Arc<dyn Content>, descriptor: &Descriptor) -> Result<Vec<u8>, Status> {
    let digest = descriptor.digest;
    check_size(descriptor)?;
    let bytes = read(content, digest, MAX_BYTES + 1)
        .await?
        .map_err(|error| Status::internal(format!("read {digest} from the content store: {error}")))?;
    if Digest::of(&bytes) != digest {
        return Err(Status::data_loss(format!(
            "blob {digest} in the content store is damaged: its bytes have another digest; remove it with `berth content rm {digest}` and pull again"
        )));
    }
    Ok(bytes)
}

/// The bytes of a document that somebody brings, as soon as they are all there and have its digest; they may not be on disk
/// yet. `None`: what came is void or something else; whoever brings it knows more.
pub async fn read_arriving_document(
    content: &Arc<dyn Content>,
    descriptor: &Descriptor,
) -> Result<Option<Vec<u8>>, Status> {
    check_size(descriptor)?;
    if let Err(status) = arrived(content, descriptor).await {
        tracing::debug!(digest = %descriptor.digest, %status, "cannot follow a document; waiting for who brings it");
        return Ok(None);
    }
    // Not to its end: that comes with the commit.
    let bytes = read(content, descriptor.digest, descriptor.size).await?;
    Ok(bytes.ok().filter(|bytes| Digest::of(bytes) == descriptor.digest))
}

/// Waits until so many bytes are there; not on a thread, as many may wait, and for long.
async fn arrived(content: &Arc<dyn Content>, descriptor: &Descriptor) -> Result<(), Status> {
    let mut seen =
        WatchBlobRequest { digest: descriptor.digest.to_string(), wait_ms: POLL_MS, ..WatchBlobRequest::default() };
    loop {
        let news = content.watch_blob(seen.clone()).await?;
        match news.state() {
            State::Committed => return Ok(()),
            State::Growing | State::Idle if news.frontier >= descriptor.size => return Ok(()),
            State::Absent | State::Growing | State::Idle => {}
        }
        (seen.generation, seen.frontier) = (news.generation, news.frontier);
    }
}

fn check_size(descriptor: &Descriptor) -> Result<(), Status> {
    if descriptor.size <= MAX_BYTES {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{} {} is {} bytes long; no such document may be longer than {MAX_BYTES}",
        descriptor.media_type.kind().as_str(),
        descriptor.digest,
        descriptor.size
    )))
}

/// So many bytes of a blob, at most. Its thread ends soon when nobody waits any more.
async fn read(content: &Arc<dyn Content>, digest: Digest, most: u64) -> Result<std::io::Result<Vec<u8>>, Status> {
    let runtime = tokio::runtime::Handle::current();
    let content = Arc::clone(content);
    let gone = Gone::default();
    let seen = Arc::clone(&gone.0);
    crate::blocking(move || {
        let mut bytes = Vec::new();
        let reader = BlobReader::new(content, runtime, digest, move || seen.load(Ordering::Relaxed));
        Ok(reader.take(most).read_to_end(&mut bytes).map(|_length| bytes))
    })
    .await
}

/// Says when it is dropped.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
