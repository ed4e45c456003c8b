//! `containerd.services.version.v1.Version`.

use berth_wire::containerd::version::{VersionResponse, version_server::Version};
use tonic::{Request, Response};

use super::Grpc;
use crate::Backend;

#[tonic::async_trait]
impl Version for Backend {
    async fn version(&self, _request: Request<()>) -> Grpc<VersionResponse> {
        let (version, revision) = (self.info.version.clone(), self.info.revision.clone());
        Ok(Response::new(VersionResponse { version, revision }))
    }
}
