//! `containerd.services.leases.v1.Leases`.

use std::borrow::Cow;

use berth_model::{
    Status,
    filter::{self, Fields, Filters},
};
use berth_wire::{
    containerd::leases::{self as api, leases_server::Leases},
    metadata as msg,
};
use tonic::Request;

use super::{Grpc, Scope, answer, collect::collect, convert::timestamp, pages};
use crate::Backend;

#[tonic::async_trait]
impl Leases for Backend {
    async fn create(&self, request: Request<api::CreateRequest>) -> Grpc<api::CreateResponse> {
        answer(create(self, request).await)
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Grpc<()> {
        answer(delete(self, request).await)
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Grpc<api::ListResponse> {
        answer(list(self, request).await)
    }

    async fn add_resource(&self, request: Request<api::AddResourceRequest>) -> Grpc<()> {
        answer(add(self, request).await)
    }

    async fn delete_resource(&self, request: Request<api::DeleteResourceRequest>) -> Grpc<()> {
        answer(take_off(self, request).await)
    }

    async fn list_resources(&self, request: Request<api::ListResourcesRequest>) -> Grpc<api::ListResourcesResponse> {
        answer(resources(self, request).await)
    }
}

async fn create(backend: &Backend, request: Request<api::CreateRequest>) -> Result<api::CreateResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let api::CreateRequest { id, labels } = request.into_inner();
    let create = msg::CreateLeaseRequest { namespace, id, labels, expires_in_seconds: 0 };
    Ok(api::CreateResponse { lease: Some(to_lease(backend.metadata.create_lease(create).await?)) })
}

async fn delete(backend: &Backend, request: Request<api::DeleteRequest>) -> Result<(), Status> {
    let namespace = Scope::of(&request)?.namespace;
    let api::DeleteRequest { id, sync } = request.into_inner();
    backend.metadata.delete_lease(msg::DeleteLeaseRequest { namespace, id }).await?;
    if sync { collect(backend).await } else { Ok(()) }
}

async fn list(backend: &Backend, request: Request<api::ListRequest>) -> Result<api::ListResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let filters = Filters::parse(&request.into_inner().filters)?;
    let fetch = |after| {
        let list = msg::ListLeasesRequest { namespace: namespace.clone(), after, limit: 0 };
        async move { backend.metadata.list_leases(list).await.map(|page| (page.leases, page.more)) }
    };
    let leases =
        pages::all(&backend.walks, fetch, |lease| lease.id.clone(), |lease| filters.matches(&Record(lease))).await?;
    Ok(api::ListResponse { leases: leases.into_iter().map(to_lease).collect() })
}

fn resource(resource: Option<api::Resource>) -> Result<Vec<msg::Resource>, Status> {
    let resource = resource.ok_or_else(|| Status::invalid_argument("resource is missing in the request"))?;
    Ok(vec![msg::Resource { r#type: resource.r#type, id: resource.id }])
}

async fn add(backend: &Backend, request: Request<api::AddResourceRequest>) -> Result<(), Status> {
    let namespace = Scope::of(&request)?.namespace;
    let request = request.into_inner();
    let resources = resource(request.resource)?;
    let add = msg::AddLeaseResourcesRequest { namespace, id: request.id, resources };
    backend.metadata.add_lease_resources(add).await.map(|_| ())
}

async fn take_off(backend: &Backend, request: Request<api::DeleteResourceRequest>) -> Result<(), Status> {
    let namespace = Scope::of(&request)?.namespace;
    let request = request.into_inner();
    let resources = resource(request.resource)?;
    let delete = msg::DeleteLeaseResourcesRequest { namespace, id: request.id, resources };
    backend.metadata.delete_lease_resources(delete).await.map(|_| ())
}

async fn resources(
    backend: &Backend,
    request: Request<api::ListResourcesRequest>,
) -> Result<api::ListResourcesResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let get = msg::GetLeaseRequest { namespace, id: request.into_inner().id };
    let lease = backend.metadata.get_lease(get).await?;
    let resources = lease.resources.into_iter().map(|named| api::Resource { id: named.id, r#type: named.r#type });
    Ok(api::ListResourcesResponse { resources: resources.collect() })
}

fn to_lease(lease: msg::Lease) -> api::Lease {
    api::Lease { id: lease.id, created_at: timestamp(lease.created_at), labels: lease.labels }
}

struct Record<'a>(&'a msg::Lease);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id"] => Some(self.0.id.as_str().into()),
            ["labels", key @ ..] => filter::label(&self.0.labels, key),
            _ => None,
        }
    }
}
