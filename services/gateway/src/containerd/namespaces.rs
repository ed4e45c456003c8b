//! `containerd.services.namespaces.v1.Namespaces`. The only service of records that needs no namespace of its own.

use std::borrow::Cow;

use berth_model::{
    Status,
    filter::{self, Fields, Filters},
};
use berth_wire::{
    containerd::namespaces::{self as api, namespaces_server::Namespaces},
    metadata as msg,
};
use tonic::Request;

use super::{Grpc, answer, content::ingests, convert::paths, pages};
use crate::Backend;

#[tonic::async_trait]
impl Namespaces for Backend {
    async fn get(&self, request: Request<api::GetNamespaceRequest>) -> Grpc<api::GetNamespaceResponse> {
        answer(get(self, request.into_inner()).await)
    }

    async fn list(&self, request: Request<api::ListNamespacesRequest>) -> Grpc<api::ListNamespacesResponse> {
        answer(list(self, request.into_inner()).await)
    }

    async fn create(&self, request: Request<api::CreateNamespaceRequest>) -> Grpc<api::CreateNamespaceResponse> {
        answer(create(self, request.into_inner()).await)
    }

    async fn update(&self, request: Request<api::UpdateNamespaceRequest>) -> Grpc<api::UpdateNamespaceResponse> {
        answer(update(self, request.into_inner()).await)
    }

    async fn delete(&self, request: Request<api::DeleteNamespaceRequest>) -> Grpc<()> {
        answer(delete(self, request.into_inner()).await)
    }
}

async fn get(backend: &Backend, request: api::GetNamespaceRequest) -> Result<api::GetNamespaceResponse, Status> {
    // One that is not there has no labels: clients ask for their defaults before they make anything.
    let found = backend.metadata.get_namespace(msg::GetNamespaceRequest { name: request.name }).await?;
    Ok(api::GetNamespaceResponse { namespace: Some(to_namespace(found)) })
}

async fn list(backend: &Backend, request: api::ListNamespacesRequest) -> Result<api::ListNamespacesResponse, Status> {
    let filters = Filters::parse(&[request.filter])?;
    let fetch = |after| async move {
        let page = backend.metadata.list_namespaces(msg::ListNamespacesRequest { after, limit: 0 }).await?;
        Ok((page.namespaces, page.more))
    };
    let found = pages::all(fetch, |found| found.name.clone(), |found| filters.matches(&Record(found))).await?;
    Ok(api::ListNamespacesResponse { namespaces: found.into_iter().map(to_namespace).collect() })
}

fn given(namespace: Option<api::Namespace>) -> Result<api::Namespace, Status> {
    namespace.ok_or_else(|| Status::invalid_argument("namespace is missing in the request"))
}

async fn create(
    backend: &Backend,
    request: api::CreateNamespaceRequest,
) -> Result<api::CreateNamespaceResponse, Status> {
    let api::Namespace { name, labels } = given(request.namespace)?;
    let made = backend.metadata.create_namespace(msg::CreateNamespaceRequest { name, labels }).await?;
    Ok(api::CreateNamespaceResponse { namespace: Some(to_namespace(made)) })
}

async fn update(
    backend: &Backend,
    request: api::UpdateNamespaceRequest,
) -> Result<api::UpdateNamespaceResponse, Status> {
    let api::Namespace { name, labels } = given(request.namespace)?;
    let update = msg::UpdateNamespaceRequest { name, labels, paths: paths(request.update_mask) };
    let updated = backend.metadata.update_namespace(update).await?;
    Ok(api::UpdateNamespaceResponse { namespace: Some(to_namespace(updated)) })
}

async fn delete(backend: &Backend, request: api::DeleteNamespaceRequest) -> Result<(), Status> {
    let name = request.name;
    backend.metadata.delete_namespace(msg::DeleteNamespaceRequest { name: name.clone() }).await?;
    // What was being written there has nowhere to go.
    ingests::drop_all(backend, &name).await
}

fn to_namespace(found: msg::Namespace) -> api::Namespace {
    api::Namespace { name: found.name, labels: found.labels }
}

struct Record<'a>(&'a msg::Namespace);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name"] => Some(self.0.name.as_str().into()),
            ["labels", key @ ..] => filter::label(&self.0.labels, key),
            _ => None,
        }
    }
}
