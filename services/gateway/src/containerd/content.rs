//! `containerd.services.content.v1.Content`: records from metadata, ingests from the content service.

pub(crate) mod ingests;
mod reading;
mod session;
mod sharing;
mod writing;

use std::{borrow::Cow, pin::Pin};

use berth_model::{
    Status,
    filter::{self, Fields, Filters},
};
use berth_wire::{
    containerd::content::{self as api, content_server::Content},
    metadata as msg,
};
use futures::Stream;
use tonic::{Request, Streaming};

use super::{
    Grpc, Scope, answer,
    convert::{paths, signed, timestamp},
    plugin,
};
use crate::{Backend, to_grpc};

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

#[tonic::async_trait]
impl Content for Backend {
    async fn info(&self, request: Request<api::InfoRequest>) -> Grpc<api::InfoResponse> {
        answer(info(self, request).await)
    }

    async fn update(&self, request: Request<api::UpdateRequest>) -> Grpc<api::UpdateResponse> {
        answer(update(self, request).await)
    }

    type ListStream = Stream_<api::ListContentResponse>;

    async fn list(&self, request: Request<api::ListContentRequest>) -> Grpc<Self::ListStream> {
        answer(list(self, request).await)
    }

    async fn delete(&self, request: Request<api::DeleteContentRequest>) -> Grpc<()> {
        answer(delete(self, request).await)
    }

    type ReadStream = Stream_<api::ReadContentResponse>;

    async fn read(&self, request: Request<api::ReadContentRequest>) -> Grpc<Self::ReadStream> {
        answer(reading::read(self, request).await)
    }

    async fn status(&self, request: Request<api::StatusRequest>) -> Grpc<api::StatusResponse> {
        answer(ingests::status(self, request).await)
    }

    async fn list_statuses(&self, request: Request<api::ListStatusesRequest>) -> Grpc<api::ListStatusesResponse> {
        answer(ingests::list(self, request).await)
    }

    type WriteStream = Stream_<api::WriteContentResponse>;

    async fn write(&self, request: Request<Streaming<api::WriteContentRequest>>) -> Grpc<Self::WriteStream> {
        answer(writing::write(self, request))
    }

    async fn abort(&self, request: Request<api::AbortRequest>) -> Grpc<()> {
        answer(ingests::abort(self, request).await)
    }
}

async fn info(backend: &Backend, request: Request<api::InfoRequest>) -> Result<api::InfoResponse, Status> {
    let asked = plugin::scope_of(backend, &request).await?.namespace;
    let digest = request.into_inner().digest;
    let (_, record) = plugin::find(backend, asked, &digest).await?;
    Ok(api::InfoResponse { info: Some(to_info(record)) })
}

async fn update(backend: &Backend, request: Request<api::UpdateRequest>) -> Result<api::UpdateResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let api::UpdateRequest { info, update_mask } = request.into_inner();
    let info = info.ok_or_else(|| Status::invalid_argument("info is missing in the request"))?;
    let update =
        msg::UpdateContentRequest { namespace, digest: info.digest, labels: info.labels, paths: paths(update_mask) };
    Ok(api::UpdateResponse { info: Some(to_info(backend.metadata.update_content(update).await?)) })
}

/// A page of records for each message.
async fn list(
    backend: &Backend,
    request: Request<api::ListContentRequest>,
) -> Result<Stream_<api::ListContentResponse>, Status> {
    const PAGE: u32 = 500;
    let namespace = plugin::scope_of(backend, &request).await?.namespace;
    let filters = Filters::parse(&request.into_inner().filters)?;
    let start = (std::sync::Arc::clone(&backend.metadata), Some(String::new()));
    let messages = futures::stream::try_unfold(start, move |(metadata, after)| {
        let (namespace, filters) = (namespace.clone(), filters.clone());
        async move {
            let Some(mut after) = after else { return Ok(None) };
            loop {
                let list = msg::ListContentRequest { namespace: namespace.clone(), after, limit: PAGE };
                let page = metadata.list_content(list).await.map_err(to_grpc)?;
                let next = page.contents.last().filter(|_| page.more).map(|last| last.digest.clone());
                let wanted = page.contents.into_iter().filter(|record| filters.matches(&Record(record)));
                let info: Vec<_> = wanted.map(to_info).collect();
                match next {
                    Some(next) if info.is_empty() => after = next,
                    None if info.is_empty() => return Ok(None),
                    next => return Ok(Some((api::ListContentResponse { info }, (metadata, next)))),
                }
            }
        }
    });
    Ok(Box::pin(messages))
}

async fn delete(backend: &Backend, request: Request<api::DeleteContentRequest>) -> Result<(), Status> {
    let scope = plugin::scope_of(backend, &request).await?;
    let digest = request.into_inner().digest;
    let delete = msg::DeleteContentRequest { namespace: scope.namespace.clone(), digest: digest.clone() };
    scope.let_go(backend, "content", &digest).await;
    crate::content::delete(backend, delete).await?;
    Ok(())
}

fn to_info(record: msg::Content) -> api::Info {
    api::Info {
        digest: record.digest,
        size: signed(record.size),
        created_at: timestamp(record.created_at),
        updated_at: timestamp(record.updated_at),
        labels: record.labels,
    }
}

struct Record<'a>(&'a msg::Content);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["digest"] => Some(self.0.digest.as_str().into()),
            ["size"] => Some(self.0.size.to_string().into()),
            ["labels", key @ ..] => filter::label(&self.0.labels, key),
            _ => None,
        }
    }
}
