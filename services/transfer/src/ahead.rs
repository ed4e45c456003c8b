//! The registry is asked what a reference names while the pull is still being recorded, or its store even opened.
//!
//! Asking takes as long as the network does, and needs nothing of ours. Whatever else a pull does waits for its record.

use std::sync::Arc;

use berth_api::fetcher::Fetcher;
use berth_model::Status;
use berth_wire::fetcher::{ResolveReply, ResolveRequest};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::wish::Wish;

/// An answer on its way. Dropped, it is not asked for any more.
pub(crate) struct Ahead(JoinHandle<Result<ResolveReply, Status>>);

impl Ahead {
    pub(crate) fn ask(fetcher: Arc<dyn Fetcher>, wish: &Wish) -> Self {
        let request = request(wish);
        let asking = async move { fetcher.resolve(request).await };
        Self(tokio::spawn(asking.in_current_span()))
    }

    pub(crate) async fn answer(mut self) -> Result<ResolveReply, Status> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(error) => Err(Status::internal(format!("asking the registry ended early: {error}"))),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the fetcher is asked.
pub(crate) fn request(wish: &Wish) -> ResolveRequest {
    ResolveRequest { reference: wish.reference.to_string(), access: Some(wish.access.clone()) }
}
