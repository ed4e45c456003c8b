//! `berth.v1.Transfer`: a pull as a stream of its states.

use std::pin::Pin;

use berth_wire::{
    gateway::transfer_server::Transfer,
    transfer::{PullState, StartPullRequest},
};
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::{
    Backend, to_grpc,
    watcher::{Watcher, Way},
};

#[tonic::async_trait]
impl Transfer for Backend {
    type PullStream = Pin<Box<dyn Stream<Item = Result<PullState, Status>> + Send>>;

    async fn pull(&self, request: Request<StartPullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let way = Way::Start(Box::new(request.into_inner()));
        let watcher = Watcher::begin(self, way).await.map_err(to_grpc)?;
        Ok(Response::new(Box::pin(watcher.states())))
    }
}
