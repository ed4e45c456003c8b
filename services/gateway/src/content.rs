//! `berth.v1.Content`: records from metadata, bytes from the blob's file.

use std::pin::Pin;

use berth_model::{Code, Status};
use berth_wire::{
    content::{DeleteBlobRequest, ListIngestsReply, ListIngestsRequest},
    gateway::{ReadChunk, ReadRequest, ReadSmallReply, ReadSmallRequest, content_server::Content},
    metadata as msg,
};
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response};

use crate::{Backend, blob, pass, small, to_grpc};

/// Bytes in one message.
const CHUNK: usize = 256 << 10;

type Grpc<T> = Result<Response<T>, tonic::Status>;

#[tonic::async_trait]
impl Content for Backend {
    async fn info(&self, request: Request<msg::GetContentRequest>) -> Grpc<msg::Content> {
        pass!(metadata.get_content, self, request)
    }

    async fn list(&self, request: Request<msg::ListContentRequest>) -> Grpc<msg::ListContentReply> {
        pass!(metadata.list_content, self, request)
    }

    async fn list_ingests(&self, request: Request<ListIngestsRequest>) -> Grpc<ListIngestsReply> {
        pass!(content.list_ingests, self, request)
    }

    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadChunk, tonic::Status>> + Send>>;

    async fn read(&self, request: Request<ReadRequest>) -> Grpc<Self::ReadStream> {
        let ReadRequest { namespace, digest, offset, size } = request.into_inner();
        let part = blob::open(self, namespace, digest, offset, size).await.map_err(to_grpc)?;
        let chunks = part.pieces(CHUNK).map(|piece| piece.map(|data| ReadChunk { data }).map_err(to_grpc));
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn read_small(&self, request: Request<ReadSmallRequest>) -> Grpc<ReadSmallReply> {
        small::read(self, request.into_inner()).await.map(Response::new).map_err(to_grpc)
    }

    async fn delete(&self, request: Request<msg::DeleteContentRequest>) -> Grpc<msg::DeleteContentReply> {
        delete(self, request.into_inner()).await.map(Response::new).map_err(to_grpc)
    }
}

/// Drops the record; and the bytes, if nobody else names them. A condemnation bars new names meanwhile.
pub(crate) async fn delete(
    backend: &Backend,
    request: msg::DeleteContentRequest,
) -> Result<msg::DeleteContentReply, Status> {
    let digest = request.digest.clone();
    let reply = backend.metadata.delete_content(request).await?;
    let condemned = match backend.metadata.condemn_content(msg::CondemnContentRequest { digest: digest.clone() }).await
    {
        Ok(condemned) => condemned,
        // Somebody else has it, or deletes it already.
        Err(status) if matches!(status.code, Code::FailedPrecondition | Code::Unavailable) => return Ok(reply),
        Err(status) => return Err(status),
    };
    let request = DeleteBlobRequest { digest: digest.clone(), not_after: condemned.until };
    let deleted = backend.content.delete_blob(request).await;
    // Otherwise it may be under way still: then the condemnation has to end by itself.
    let is_over = match &deleted {
        Ok(_) => true,
        Err(status) => matches!(status.code, Code::NotFound | Code::FailedPrecondition),
    };
    if is_over {
        let request = msg::AbsolveContentRequest { digest, until: condemned.until };
        backend.metadata.absolve_content(request).await?;
    }
    match deleted {
        Err(status) if status.code != Code::NotFound => Err(status),
        _ => Ok(reply),
    }
}
