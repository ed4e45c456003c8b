//! `containerd.services.containers.v1.Containers`: records of containers, for whoever runs them.

use std::{borrow::Cow, pin::Pin};

use berth_model::{
    Status,
    filter::{self, Fields, Filters},
};
use berth_wire::{
    containerd::containers::{self as api, containers_server::Containers},
    metadata as msg,
};
use futures::Stream;
use tonic::Request;

use super::{
    Grpc, Scope, answer,
    convert::{any, paths, payload, timestamp},
    pages,
};
use crate::Backend;

#[tonic::async_trait]
impl Containers for Backend {
    async fn get(&self, request: Request<api::GetContainerRequest>) -> Grpc<api::GetContainerResponse> {
        answer(get(self, request).await)
    }

    async fn list(&self, request: Request<api::ListContainersRequest>) -> Grpc<api::ListContainersResponse> {
        answer(list(self, request).await.map(|containers| api::ListContainersResponse { containers }))
    }

    type ListStreamStream = Pin<Box<dyn Stream<Item = Result<api::ListContainerMessage, tonic::Status>> + Send>>;

    async fn list_stream(&self, request: Request<api::ListContainersRequest>) -> Grpc<Self::ListStreamStream> {
        let message = |container| Ok(api::ListContainerMessage { container: Some(container) });
        let listed = list(self, request).await;
        answer(
            listed
                .map(|all| -> Self::ListStreamStream { Box::pin(futures::stream::iter(all.into_iter().map(message))) }),
        )
    }

    async fn create(&self, request: Request<api::CreateContainerRequest>) -> Grpc<api::CreateContainerResponse> {
        answer(create(self, request).await)
    }

    async fn update(&self, request: Request<api::UpdateContainerRequest>) -> Grpc<api::UpdateContainerResponse> {
        answer(update(self, request).await)
    }

    async fn delete(&self, request: Request<api::DeleteContainerRequest>) -> Grpc<()> {
        answer(delete(self, request).await)
    }
}

async fn get(
    backend: &Backend,
    request: Request<api::GetContainerRequest>,
) -> Result<api::GetContainerResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let get = msg::GetContainerRequest { namespace, id: request.into_inner().id };
    Ok(api::GetContainerResponse { container: Some(to_container(backend.metadata.get_container(get).await?)) })
}

async fn list(backend: &Backend, request: Request<api::ListContainersRequest>) -> Result<Vec<api::Container>, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let filters = Filters::parse(&request.into_inner().filters)?;
    let fetch = |after| {
        let list = msg::ListContainersRequest { namespace: namespace.clone(), after, limit: 0 };
        async move { backend.metadata.list_containers(list).await.map(|page| (page.containers, page.more)) }
    };
    let found = pages::all(fetch, |found| found.id.clone(), |found| filters.matches(&Record(found))).await?;
    Ok(found.into_iter().map(to_container).collect())
}

async fn create(
    backend: &Backend,
    request: Request<api::CreateContainerRequest>,
) -> Result<api::CreateContainerResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let container = Some(from_container(request.into_inner().container)?);
    let made = backend.metadata.create_container(msg::CreateContainerRequest { namespace, container }).await?;
    Ok(api::CreateContainerResponse { container: Some(to_container(made)) })
}

async fn update(
    backend: &Backend,
    request: Request<api::UpdateContainerRequest>,
) -> Result<api::UpdateContainerResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let api::UpdateContainerRequest { container, update_mask } = request.into_inner();
    let container = Some(from_container(container)?);
    let update = msg::UpdateContainerRequest { namespace, container, paths: paths(update_mask) };
    let updated = backend.metadata.update_container(update).await?;
    Ok(api::UpdateContainerResponse { container: Some(to_container(updated)) })
}

async fn delete(backend: &Backend, request: Request<api::DeleteContainerRequest>) -> Result<(), Status> {
    let namespace = Scope::of(&request)?.namespace;
    let delete = msg::DeleteContainerRequest { namespace, id: request.into_inner().id };
    backend.metadata.delete_container(delete).await.map(|_| ())
}

fn from_container(container: Option<api::Container>) -> Result<msg::Container, Status> {
    let container = container.ok_or_else(|| Status::invalid_argument("container is missing in the request"))?;
    let runtime = container.runtime.unwrap_or_default();
    let extensions = container.extensions.into_iter();
    Ok(msg::Container {
        id: container.id,
        labels: container.labels,
        image: container.image,
        runtime: runtime.name,
        runtime_options: payload(runtime.options),
        spec: payload(container.spec),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: None,
        updated_at: None,
        extensions: extensions.map(|(name, any)| (name, payload(Some(any)).unwrap_or_default())).collect(),
        sandbox: container.sandbox,
    })
}

fn to_container(container: msg::Container) -> api::Container {
    let extensions = container.extensions.into_iter();
    api::Container {
        id: container.id,
        labels: container.labels,
        image: container.image,
        runtime: Some(api::container::Runtime { name: container.runtime, options: any(container.runtime_options) }),
        spec: any(container.spec),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: timestamp(container.created_at),
        updated_at: timestamp(container.updated_at),
        extensions: extensions.map(|(name, payload)| (name, any(Some(payload)).unwrap_or_default())).collect(),
        sandbox: container.sandbox,
    }
}

struct Record<'a>(&'a msg::Container);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id"] => Some(self.0.id.as_str().into()),
            ["runtime", "name"] => Some(self.0.runtime.as_str().into()),
            ["image"] => Some(self.0.image.as_str().into()),
            ["labels", key @ ..] => filter::label(&self.0.labels, key),
            _ => None,
        }
    }
}
