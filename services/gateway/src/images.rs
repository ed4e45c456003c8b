//! `berth.v1.Images`.

use berth_wire::{gateway::images_server::Images, metadata as msg};
use tonic::{Request, Response, Status};

use crate::{Backend, pass};

#[tonic::async_trait]
impl Images for Backend {
    async fn get(&self, request: Request<msg::GetImageRequest>) -> Result<Response<msg::Image>, Status> {
        pass!(metadata.get_image, self, request)
    }

    async fn list(&self, request: Request<msg::ListImagesRequest>) -> Result<Response<msg::ListImagesReply>, Status> {
        pass!(metadata.list_images, self, request)
    }

    async fn delete(
        &self,
        request: Request<msg::DeleteImageRequest>,
    ) -> Result<Response<msg::DeleteImageReply>, Status> {
        pass!(metadata.delete_image, self, request)
    }
}
