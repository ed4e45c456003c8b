//! Reading a blob: its bytes in messages, each with its offset from where the request began.

use berth_model::Status;
use berth_wire::containerd::content as api;
use futures::StreamExt as _;
use tonic::Request;

use super::{Stream_, plugin, signed};
use crate::{Backend, blob, to_grpc};

/// Bytes in one message, as containerd has it.
const MESSAGE: usize = 1 << 20;

pub(super) async fn read(
    backend: &Backend,
    request: Request<api::ReadContentRequest>,
) -> Result<Stream_<api::ReadContentResponse>, Status> {
    let asked = plugin::scope_of(backend, &request).await?.namespace;
    let api::ReadContentRequest { digest, offset, size } = request.into_inner();
    let (namespace, _) = plugin::find(backend, asked, &digest).await?;
    // Below zero is the beginning, or the end.
    let (offset, size) = (u64::try_from(offset).unwrap_or(0), u64::try_from(size).unwrap_or(0));
    let part = blob::open(backend, namespace, digest, offset, size).await?;
    let mut sent = 0;
    let messages = part.pieces(MESSAGE).map(move |piece| {
        let data = piece.map_err(to_grpc)?;
        let offset = signed(sent);
        sent += data.len() as u64;
        Ok(api::ReadContentResponse { offset, data })
    });
    Ok(Box::pin(messages))
}
