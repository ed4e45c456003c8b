//! Reads indexes, manifests and configs out of the content store: small, whole, and checked against their digest again.

use std::{io::Read as _, sync::Arc};

use berth_model::{Descriptor, Digest, Status};

use super::{BlobReader, Content};

/// No document is larger (containerd refuses manifests over 4 MiB; configs with long histories are smaller than this too).
const MAX_BYTES: u64 = 8 << 20;

/// The bytes of a committed document.
pub async fn read_document(content: &Arc<dyn Content>, descriptor: &Descriptor) -> Result<Vec<u8>, Status> {
    let digest = descriptor.digest;
    if descriptor.size > MAX_BYTES {
        return Err(Status::invalid_argument(format!(
            "{} {digest} is {} bytes long; no such document may be longer than {MAX_BYTES}",
            descriptor.media_type.kind().as_str(),
            descriptor.size
        )));
    }
    let runtime = tokio::runtime::Handle::current();
    let content = Arc::clone(content);
    crate::blocking(move || {
        let mut bytes = Vec::new();
        let reader = BlobReader::new(content, runtime, digest, || false);
        reader
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Status::internal(format!("read {digest} from the content store: {error}")))?;
        if Digest::of(&bytes) != digest {
            return Err(Status::data_loss(format!(
                "blob {digest} in the content store is damaged: its bytes have another digest; remove it with `berth content rm {digest}` and pull again"
            )));
        }
        Ok(bytes)
    })
    .await
}
