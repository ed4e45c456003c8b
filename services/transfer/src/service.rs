//! The running pulls: equal ones are one, watchers come and go, and the last one that leaves cancels.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_api::{
    content::ContentClient, fetcher::FetcherClient, metadata::MetadataClient, transfer::Transfer,
    unpacker::UnpackerClient,
};
use berth_bus::Bus;
use berth_model::{Identifier, Platform, Reference, Status, labels};
use berth_wire::{fetcher::Access, transfer as msg};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    Config,
    board::{Board, is_over},
    pull::{Pull, Wish},
};

/// More pulls than this at once are refused: each holds a task, a lease and its layers' jobs.
const MAX_RUNNING: usize = 1000;
/// A long poll never waits longer.
const MAX_WAIT: Duration = Duration::from_secs(30);

struct Entry {
    wish: Wish,
    board: Arc<Board>,
    cancel: CancellationToken,
    watchers: usize,
    last_seen: Instant,
    ended: Option<Instant>,
}

/// The transfer service.
pub struct Service {
    bus: Bus,
    config: Config,
    pulls: Arc<Mutex<HashMap<String, Entry>>>,
}

impl Service {
    /// A service that works through this bus.
    #[must_use]
    pub fn new(bus: Bus, config: Config) -> Self {
        Self { bus, config, pulls: Arc::default() }
    }

    fn pulls(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the task of a pull: it ends by itself, by cancellation, or because nobody watches any more.
    fn launch(&self, id: String, entry: &Entry) {
        let pull = Pull {
            id: id.clone(),
            wish: entry.wish.clone(),
            board: Arc::clone(&entry.board),
            bus: self.bus.clone(),
            content: Arc::new(ContentClient::new(self.bus.clone())),
            metadata: Arc::new(MetadataClient::new(self.bus.clone())),
            fetcher: Arc::new(FetcherClient::new(self.bus.clone())),
            unpacker: Arc::new(UnpackerClient::new(self.bus.clone())),
            lease_lasts: self.config.lease,
        };
        let (cancel, pulls, abandoned_after) =
            (entry.cancel.clone(), Arc::clone(&self.pulls), self.config.abandoned_after);
        let span = tracing::info_span!("pull", id, reference = %pull.wish.reference, namespace = pull.wish.namespace);
        let task = async move {
            let stop = async {
                tokio::select! {
                    () = cancel.cancelled() => Status::cancelled("the pull was cancelled; what was fetched is kept for the next try"),
                    () = abandoned(&pulls, &id, abandoned_after) => Status::cancelled("nobody watched the pull any more; it was cancelled"),
                }
            };
            match &pull.run(stop).await {
                Ok(()) => tracing::info!("pulled"),
                Err(status) => {
                    tracing::info!(code = %status.code, error = %status, "the pull failed");
                    pull.board.failed(status);
                }
            }
            if let Some(entry) = pulls.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
                entry.ended = Some(Instant::now());
                entry.wish.access = Access::default();
            }
        };
        tokio::spawn(task.instrument(span));
    }

    /// Drops ended pulls that were remembered long enough.
    fn forget(&self, pulls: &mut HashMap<String, Entry>) {
        let remember = self.config.remember;
        pulls.retain(|_, entry| entry.ended.is_none_or(|ended| ended.elapsed() < remember));
    }
}

/// Ends when a running pull has not been watched for so long.
async fn abandoned(pulls: &Mutex<HashMap<String, Entry>>, id: &str, after: Duration) {
    loop {
        let idle = match pulls.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            Some(entry) => entry.last_seen.elapsed(),
            None => return,
        };
        let Some(left) = after.checked_sub(idle).filter(|left| !left.is_zero()) else {
            return;
        };
        tokio::time::sleep(left).await;
    }
}

fn wish(request: msg::StartPullRequest) -> Result<Wish, Status> {
    let invalid = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
    request.namespace.parse::<Identifier>().map_err(|error| invalid(&error).context("namespace"))?;
    let reference: Reference = request.reference.parse().map_err(|error| invalid(&error))?;
    labels::check(&request.labels)?;
    let mut platforms: Vec<Platform> = request.platforms.iter().map(Platform::from).collect();
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let snapshotter = if request.snapshotter.is_empty() { "overlayfs".to_owned() } else { request.snapshotter };
    Ok(Wish {
        namespace: request.namespace,
        reference,
        platforms,
        snapshotter,
        unpack: !request.no_unpack,
        access: request.access.unwrap_or_default(),
        labels: request.labels,
    })
}

fn unknown(id: &str) -> Status {
    Status::not_found(format!(
        "no pull {id} is known: it ended long ago, or the transfer service was started anew; pull again to go on"
    ))
}

#[async_trait::async_trait]
impl Transfer for Service {
    async fn start_pull(&self, request: msg::StartPullRequest) -> Result<msg::StartPullReply, Status> {
        let wish = wish(request)?;
        let mut pulls = self.pulls();
        self.forget(&mut pulls);
        let equal = pulls
            .iter_mut()
            .find(|(_, entry)| entry.ended.is_none() && !entry.cancel.is_cancelled() && entry.wish == wish);
        if let Some((id, entry)) = equal {
            entry.watchers += 1;
            entry.last_seen = Instant::now();
            return Ok(msg::StartPullReply { pull_id: id.clone(), attached: true });
        }
        if pulls.values().filter(|entry| entry.ended.is_none()).count() >= MAX_RUNNING {
            return Err(Status::resource_exhausted(format!(
                "{MAX_RUNNING} pulls are running already; try again when some are done"
            )));
        }
        let id = uuid::Uuid::now_v7().to_string();
        let entry = Entry {
            board: Arc::new(Board::new(&id, &wish.reference.to_string())),
            wish,
            cancel: CancellationToken::new(),
            watchers: 1,
            last_seen: Instant::now(),
            ended: None,
        };
        self.launch(id.clone(), &entry);
        pulls.insert(id.clone(), entry);
        Ok(msg::StartPullReply { pull_id: id, attached: false })
    }

    async fn watch_pull(&self, request: msg::WatchPullRequest) -> Result<msg::PullState, Status> {
        let board = {
            let mut pulls = self.pulls();
            let entry = pulls.get_mut(&request.pull_id).ok_or_else(|| unknown(&request.pull_id))?;
            entry.last_seen = Instant::now();
            Arc::clone(&entry.board)
        };
        let wait = Duration::from_millis(u64::from(request.wait_ms)).min(MAX_WAIT).min(self.config.abandoned_after / 2);
        let state = board.news(request.seen, wait).await;
        if let Some(entry) = self.pulls().get_mut(&request.pull_id) {
            entry.last_seen = Instant::now();
        }
        Ok(state)
    }

    async fn leave_pull(&self, request: msg::LeavePullRequest) -> Result<msg::LeavePullReply, Status> {
        let mut pulls = self.pulls();
        let entry = pulls.get_mut(&request.pull_id).ok_or_else(|| unknown(&request.pull_id))?;
        entry.watchers = entry.watchers.saturating_sub(1);
        if entry.watchers == 0 && !is_over(&entry.board.state()) {
            entry.cancel.cancel();
        }
        Ok(msg::LeavePullReply {})
    }

    async fn get_access(&self, request: msg::GetAccessRequest) -> Result<Access, Status> {
        let pulls = self.pulls();
        let entry = pulls.get(&request.pull_id).filter(|entry| entry.ended.is_none());
        entry.map(|entry| entry.wish.access.clone()).ok_or_else(|| unknown(&request.pull_id))
    }
}
