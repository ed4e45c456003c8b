//! One client that waits for a pull, whatever becomes of the transfer service meanwhile.
//!
//! A stream of states is made from long polls. When transfer is gone, the client's request is sent again with the id of its
//! pull, until somebody answers: so the pull goes on where it was, and an interrupted one gets its credentials again, which
//! are nowhere but here. When the client goes, the pull is left; when this gateway ends, it is not: the client will come
//! back through another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::transfer::Transfer;
use berth_model::{Code, Status};
use berth_wire::transfer::{
    AttachPullRequest, LeavePullRequest, PullState, StartPullRequest, WatchPullRequest, pull_state::Phase,
};
use futures::Stream;
use tokio_util::sync::CancellationToken;

use crate::{Backend, to_grpc};

/// How long one poll waits.
const WAIT_MS: u32 = 10_000;
/// A transfer service that is gone for so long does not come back.
const PATIENCE: Duration = Duration::from_secs(90);
/// Before it is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// How the client came to its pull.
pub(crate) enum Way {
    /// It began one.
    Start(Box<StartPullRequest>),
    /// It named one.
    Attach(AttachPullRequest),
}

pub(crate) struct Watcher {
    transfer: Arc<dyn Transfer>,
    stopping: CancellationToken,
    way: Way,
    name: String,
    pull_id: String,
    seen: u64,
    /// Since when nobody answers.
    lost: Option<Instant>,
    over: bool,
}

impl Watcher {
    /// Starts or finds the pull.
    pub(crate) async fn begin(backend: &Backend, mut way: Way) -> Result<Self, Status> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        match &mut way {
            Way::Start(request) => request.watcher.clone_from(&name),
            Way::Attach(request) => request.watcher.clone_from(&name),
        }
        let mut watcher = Self {
            transfer: Arc::clone(&backend.transfer),
            stopping: backend.stopping.clone(),
            way,
            name,
            pull_id: String::new(),
            seen: 0,
            lost: None,
            over: false,
        };
        watcher.find().await?;
        Ok(watcher)
    }

    /// Asks for the pull, at first or again.
    async fn find(&mut self) -> Result<(), Status> {
        let reply = match &mut self.way {
            Way::Start(request) => self.transfer.start_pull((**request).clone()).await?,
            Way::Attach(request) => self.transfer.attach_pull(request.clone()).await?,
        };
        if self.pull_id != reply.pull_id {
            self.seen = 0;
        }
        self.pull_id = reply.pull_id;
        match &mut self.way {
            Way::Start(request) => request.pull_id.clone_from(&self.pull_id),
            // What was found by its reference may not be the newest the next time.
            Way::Attach(request) => request.pull.clone_from(&self.pull_id),
        }
        Ok(())
    }

    async fn poll(&self) -> Result<PullState, Status> {
        let poll = WatchPullRequest {
            pull_id: self.pull_id.clone(),
            seen: self.seen,
            wait_ms: WAIT_MS,
            watcher: self.name.clone(),
        };
        self.transfer.watch_pull(poll).await
    }

    /// The next state that is news; nothing after the last one.
    async fn next(&mut self) -> Result<Option<PullState>, Status> {
        let stopping = self.stopping.clone();
        match stopping.run_until_cancelled(self.news()).await {
            Some(news) => news,
            None => {
                // Not left: whoever waits comes back.
                self.over = true;
                Err(Status::unavailable("the gateway is stopping; the pull goes on, ask for it again"))
            }
        }
    }

    async fn news(&mut self) -> Result<Option<PullState>, Status> {
        if self.over {
            return Ok(None);
        }
        loop {
            match self.poll().await {
                Ok(state) => {
                    self.lost = None;
                    self.over = matches!(state.phase(), Phase::Done | Phase::Failed);
                    if state.version > self.seen || self.over {
                        self.seen = state.version;
                        return Ok(Some(state));
                    }
                }
                Err(status) => self.recover(status).await?,
            }
        }
    }

    /// Asks again until there is an answer, or no hope.
    async fn recover(&mut self, mut why: Status) -> Result<(), Status> {
        let since = *self.lost.get_or_insert_with(Instant::now);
        loop {
            let passing = matches!(why.code, Code::Unavailable | Code::DeadlineExceeded | Code::NotFound);
            if !passing || since.elapsed() > PATIENCE {
                return Err(why);
            }
            tracing::debug!(pull = self.pull_id, status = %why, "asking for the pull again");
            tokio::time::sleep(PAUSE).await;
            match self.find().await {
                Ok(()) => return Ok(()),
                Err(status) if status.code == Code::NotFound => return Err(status),
                Err(status) => why = status,
            }
        }
    }

    /// All states, to the last one.
    pub(crate) fn states(self) -> impl Stream<Item = Result<PullState, tonic::Status>> + Send {
        futures::stream::try_unfold(self, |mut watcher| async move {
            let state = watcher.next().await.map_err(to_grpc)?;
            Ok(state.map(|state| (state, watcher)))
        })
    }
}

/// Leaves the pull when the client does.
impl Drop for Watcher {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.over || self.stopping.is_cancelled() || self.pull_id.is_empty() {
            return;
        }
        let transfer = Arc::clone(&self.transfer);
        let (pull_id, watcher) = (std::mem::take(&mut self.pull_id), std::mem::take(&mut self.name));
        runtime.spawn(async move {
            if let Err(status) = transfer.leave_pull(LeavePullRequest { pull_id, watcher }).await {
                tracing::debug!(%status, "leaving a pull");
            }
        });
    }
}
