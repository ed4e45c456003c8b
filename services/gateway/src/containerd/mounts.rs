//! `containerd.services.mounts.v1.Mounts`: clients mount by themselves. There are no mounts to list; what would make one
//! says so, and clients then do it themselves.

use std::pin::Pin;

use berth_model::Status;
use berth_wire::containerd::mounts::{self as api, mounts_server::Mounts};
use futures::Stream;
use tonic::Request;

use super::{Grpc, Scope, answer};
use crate::Backend;

fn not_offered<T>() -> Grpc<T> {
    answer(Err(Status::unimplemented("mounts are not made here; mount what the snapshotter answers")))
}

#[tonic::async_trait]
impl Mounts for Backend {
    async fn activate(&self, _: Request<api::ActivateRequest>) -> Grpc<api::ActivateResponse> {
        not_offered()
    }

    async fn deactivate(&self, _: Request<api::DeactivateRequest>) -> Grpc<()> {
        not_offered()
    }

    async fn info(&self, _: Request<api::InfoRequest>) -> Grpc<api::InfoResponse> {
        not_offered()
    }

    async fn update(&self, _: Request<api::UpdateRequest>) -> Grpc<api::UpdateResponse> {
        not_offered()
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<api::ListMessage, tonic::Status>> + Send>>;

    async fn list(&self, request: Request<api::ListRequest>) -> Grpc<Self::ListStream> {
        answer(Scope::of(&request).map(|_| -> Self::ListStream { Box::pin(futures::stream::empty()) }))
    }
}
