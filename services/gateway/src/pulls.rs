//! `berth.v1.Pulls`: pulls that run or ran.

use std::{pin::Pin, sync::Arc};

use berth_wire::{
    gateway::pulls_server::Pulls,
    transfer::{
        AttachPullRequest, CancelPullReply, CancelPullRequest, ListPullsReply, ListPullsRequest, PullState,
        StartPullReply, StartPullRequest, WatchPullsReply, WatchPullsRequest,
    },
};
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::{
    Backend, pass, to_grpc,
    watcher::{Watcher, Way},
};

/// How long one poll waits.
const WAIT_MS: u32 = 10_000;
/// How often a transfer service that does not answer is asked again.
const TRIES: u32 = 3;

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Pulls for Backend {
    async fn start(&self, request: Request<StartPullRequest>) -> Result<Response<StartPullReply>, Status> {
        pass!(transfer.start_pull, self, request)
    }

    async fn list(&self, request: Request<ListPullsRequest>) -> Result<Response<ListPullsReply>, Status> {
        pass!(transfer.list_pulls, self, request)
    }

    type WatchStream = Streaming<WatchPullsReply>;

    async fn watch(&self, request: Request<WatchPullsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = WatchPullsRequest { wait_ms: WAIT_MS, ..request.into_inner() };
        let (transfer, stopping) = (Arc::clone(&self.transfer), self.stopping.clone());
        let states = futures::stream::try_unfold((request, 0), move |(mut request, failures)| {
            let (transfer, stopping) = (Arc::clone(&transfer), stopping.clone());
            async move {
                let mut failures: u32 = failures;
                loop {
                    let Some(polled) = stopping.run_until_cancelled(transfer.watch_pulls(request.clone())).await else {
                        return Err(Status::unavailable("the gateway is stopping; ask again"));
                    };
                    match polled {
                        Ok(reply) if reply.version == request.seen => failures = 0,
                        Ok(reply) => {
                            request.seen = reply.version;
                            return Ok(Some((reply, (request, 0))));
                        }
                        Err(status) if status.code.is_passing() && failures < TRIES => {
                            // Its versions begin elsewhere when it is back.
                            request.seen = 0;
                            failures += 1;
                        }
                        Err(status) => return Err(to_grpc(status)),
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(states)))
    }

    type AttachStream = Streaming<PullState>;

    async fn attach(&self, request: Request<AttachPullRequest>) -> Result<Response<Self::AttachStream>, Status> {
        let watcher = Watcher::begin(self, Way::Attach(request.into_inner())).await.map_err(to_grpc)?;
        Ok(Response::new(Box::pin(watcher.states())))
    }

    async fn cancel(&self, request: Request<CancelPullRequest>) -> Result<Response<CancelPullReply>, Status> {
        pass!(transfer.cancel_pull, self, request)
    }
}
