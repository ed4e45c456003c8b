//! `berth.v1.Transfer`: a pull as a stream of its states, made from long polls.

use std::{pin::Pin, sync::Arc};

use berth_api::transfer::Transfer as Contract;
use berth_wire::{
    gateway::transfer_server::Transfer,
    transfer::{LeavePullRequest, PullState, StartPullRequest, WatchPullRequest, pull_state::Phase},
};
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::{Backend, to_grpc};

/// How long one poll waits.
const WAIT_MS: u32 = 10_000;

#[tonic::async_trait]
impl Transfer for Backend {
    type PullStream = Pin<Box<dyn Stream<Item = Result<PullState, Status>> + Send>>;

    async fn pull(&self, request: Request<StartPullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let started = self.transfer.start_pull(request.into_inner()).await.map_err(to_grpc)?;
        let watcher = Watcher { transfer: Arc::clone(&self.transfer), pull_id: started.pull_id, over: false };
        let states = futures::stream::try_unfold((watcher, 0), |(mut watcher, seen)| async move {
            loop {
                if watcher.over {
                    return Ok(None);
                }
                let poll = WatchPullRequest { pull_id: watcher.pull_id.clone(), seen, wait_ms: WAIT_MS };
                let state = watcher.transfer.watch_pull(poll).await.map_err(to_grpc)?;
                watcher.over = matches!(state.phase(), Phase::Done | Phase::Failed);
                if state.version > seen || watcher.over {
                    let seen = state.version;
                    return Ok(Some((state, (watcher, seen))));
                }
            }
        });
        Ok(Response::new(Box::pin(states)))
    }
}

/// Leaves the pull when the client does.
struct Watcher {
    transfer: Arc<dyn Contract>,
    pull_id: String,
    over: bool,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.over {
            return;
        }
        let (transfer, pull_id) = (Arc::clone(&self.transfer), std::mem::take(&mut self.pull_id));
        runtime.spawn(async move {
            if let Err(status) = transfer.leave_pull(LeavePullRequest { pull_id }).await {
                tracing::debug!(%status, "leaving a pull");
            }
        });
    }
}
