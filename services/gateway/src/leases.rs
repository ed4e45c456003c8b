//! `berth.v1.Leases`: metadata's, as they are.

use berth_wire::{gateway::leases_server::Leases, metadata as msg};
use tonic::{Request, Response, Status};

use crate::{Backend, pass};

#[tonic::async_trait]
impl Leases for Backend {
    async fn create(&self, request: Request<msg::CreateLeaseRequest>) -> Result<Response<msg::Lease>, Status> {
        pass!(metadata.create_lease, self, request)
    }

    async fn get(&self, request: Request<msg::GetLeaseRequest>) -> Result<Response<msg::Lease>, Status> {
        pass!(metadata.get_lease, self, request)
    }

    async fn list(&self, request: Request<msg::ListLeasesRequest>) -> Result<Response<msg::ListLeasesReply>, Status> {
        pass!(metadata.list_leases, self, request)
    }

    async fn delete(
        &self,
        request: Request<msg::DeleteLeaseRequest>,
    ) -> Result<Response<msg::DeleteLeaseReply>, Status> {
        pass!(metadata.delete_lease, self, request)
    }

    async fn add_resources(
        &self,
        request: Request<msg::AddLeaseResourcesRequest>,
    ) -> Result<Response<msg::AddLeaseResourcesReply>, Status> {
        pass!(metadata.add_lease_resources, self, request)
    }

    async fn delete_resources(
        &self,
        request: Request<msg::DeleteLeaseResourcesRequest>,
    ) -> Result<Response<msg::DeleteLeaseResourcesReply>, Status> {
        pass!(metadata.delete_lease_resources, self, request)
    }
}
