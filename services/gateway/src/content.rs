//! `berth.v1.Content`: records from metadata, bytes from the blob's file.

use std::{io::SeekFrom, pin::Pin};

use berth_model::{Code, Status};
use berth_wire::{
    content::{DeleteBlobRequest, ListIngestsReply, ListIngestsRequest, StatBlobRequest},
    gateway::{ReadChunk, ReadRequest, content_server::Content},
    metadata as msg,
};
use futures::Stream;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tonic::{Request, Response};

use crate::{Backend, pass, to_grpc};

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
        let stream = read(self, request.into_inner()).await.map_err(to_grpc)?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn delete(&self, request: Request<msg::DeleteContentRequest>) -> Grpc<msg::DeleteContentReply> {
        delete(self, request.into_inner()).await.map(Response::new).map_err(to_grpc)
    }
}

/// The bytes of a blob that the namespace has.
async fn read(
    backend: &Backend,
    request: ReadRequest,
) -> Result<impl Stream<Item = Result<ReadChunk, tonic::Status>> + Send + use<>, Status> {
    let record = msg::GetContentRequest { namespace: request.namespace, digest: request.digest.clone() };
    backend.metadata.get_content(record).await?;
    let blob = backend.content.stat_blob(StatBlobRequest { digest: request.digest }).await?;
    if request.offset > blob.size {
        return Err(Status::out_of_range(format!(
            "offset {} is past the end of blob {}, which has {} bytes",
            request.offset, blob.digest, blob.size
        )));
    }
    let left = match request.size {
        0 => blob.size - request.offset,
        size => size.min(blob.size - request.offset),
    };
    let path = std::path::PathBuf::from(blob.path);
    let failed = |error: &std::io::Error| Status::io("read blob", &path, error);
    let mut file = tokio::fs::File::open(&path).await.map_err(|error| failed(&error))?;
    file.seek(SeekFrom::Start(request.offset)).await.map_err(|error| failed(&error))?;
    let source = (file.take(left), path);
    Ok(futures::stream::try_unfold(source, |(mut file, path)| async move {
        let mut data = Vec::with_capacity(CHUNK.min(usize::try_from(file.limit()).unwrap_or(CHUNK)));
        let mut part = (&mut file).take(CHUNK as u64);
        part.read_to_end(&mut data).await.map_err(|error| to_grpc(Status::io("read blob", &path, &error)))?;
        if data.is_empty() { Ok(None) } else { Ok(Some((ReadChunk { data }, (file, path)))) }
    }))
}

/// Drops the record; and the bytes, if nobody else names them. A condemnation bars new names meanwhile.
async fn delete(backend: &Backend, request: msg::DeleteContentRequest) -> Result<msg::DeleteContentReply, Status> {
    let digest = request.digest.clone();
    let reply = backend.metadata.delete_content(request).await?;
    let condemned = match backend.metadata.condemn_content(msg::CondemnContentRequest { digest: digest.clone() }).await
    {
        Ok(condemned) => condemned,
        Err(status) if status.code == Code::FailedPrecondition => return Ok(reply),
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
