//! `berth.v1.Version`.

use berth_wire::gateway::{VersionReply, VersionRequest, version_server::Version};
use tonic::{Request, Response, Status};

use crate::Backend;

#[tonic::async_trait]
impl Version for Backend {
    async fn get(&self, _request: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        Ok(Response::new(VersionReply {
            version: self.info.version.clone(),
            revision: self.info.revision.clone(),
            root: self.info.root.clone(),
            pid: std::process::id(),
        }))
    }
}
