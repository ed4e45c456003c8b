//! All pulls that are known here, and what they share: the term, the places for jobs, the way to the other services.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_api::{
    content::ContentClient,
    fetcher::{Fetcher, FetcherClient},
    metadata::MetadataClient,
    pull_records::{PullRecords, PullRecordsClient},
    unpacker::UnpackerClient,
};
use berth_bus::Bus;
use berth_model::{Code, Status};
use berth_telemetry::context;
use berth_wire::{metadata as msg, types};
use tokio::sync::OnceCell;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::{
    Config,
    board::News,
    entry::Entry,
    journal::{self, Journal},
    life,
    pull::Pull,
    wish::between,
    work::Work,
};

/// Metadata may be gone as well.
const GOODBYE: Duration = Duration::from_secs(2);
/// Ended pulls remembered with all they showed; of others the records tell the end.
const MAX_REMEMBERED: usize = 200;

pub(crate) struct Book {
    pub(crate) bus: Bus,
    pub(crate) config: Config,
    pub(crate) records: Arc<dyn PullRecords>,
    pub(crate) fetcher: Arc<dyn Fetcher>,
    pub(crate) news: News,
    /// Ends all that happens here, and leaves it for who comes after.
    pub(crate) closing: CancellationToken,
    pulls: Mutex<HashMap<String, Entry>>,
    journal: OnceCell<Journal>,
    work: Arc<Work>,
    lives: TaskTracker,
}

impl Book {
    pub(crate) fn new(bus: Bus, config: Config) -> Arc<Self> {
        Arc::new(Self {
            records: Arc::new(PullRecordsClient::new(bus.clone())),
            fetcher: Arc::new(FetcherClient::new(bus.clone())),
            work: Arc::new(Work::new(config.in_flight)),
            bus,
            config,
            news: News::default(),
            closing: CancellationToken::new(),
            pulls: Mutex::default(),
            journal: OnceCell::new(),
            lives: TaskTracker::new(),
        })
    }

    pub(crate) fn pulls(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal; at the first time it begins the term and reads which pulls were interrupted.
    pub(crate) async fn journal(self: &Arc<Self>) -> Result<&Journal, Status> {
        self.begin(Duration::ZERO).await
    }

    pub(crate) async fn begin(self: &Arc<Self>, silent_for: Duration) -> Result<&Journal, Status> {
        // Boxed, as it happens once and would make every call's future as large as itself.
        let init = || {
            Box::pin(async {
                let journal = Journal::begin(Arc::clone(&self.records), self.config.lease, silent_for).await?;
                let request = msg::ListPullRecordsRequest { running: true, ..msg::ListPullRecordsRequest::default() };
                for record in journal::all(&self.records, request).await? {
                    self.find_interrupted(&journal, record).await?;
                }
                Ok(journal)
            })
        };
        self.journal.get_or_try_init(init).await
    }

    /// Whether the term has begun: who asks for a pull then waits for its record only.
    pub(crate) fn has_begun(&self) -> bool {
        self.journal.initialized()
    }

    /// One that did not end: it waits here for who waits for it, unless that is too long ago.
    async fn find_interrupted(self: &Arc<Self>, journal: &Journal, record: msg::PullRecord) -> Result<(), Status> {
        let id = record.id.clone();
        let started = record.started_at.or(record.created_at).unwrap_or_default();
        if between(started, types::Time::now()) > self.config.lease && !record.detached {
            let end = msg::EndPullRequest {
                id,
                code: Code::Cancelled.number(),
                message: "it was interrupted, and nobody asked for it again while its lease lasted".to_owned(),
                ..msg::EndPullRequest::default()
            };
            return journal.end(end).await.map(drop);
        }
        let entry = match Entry::found(record, self.news.clone()) {
            Ok(entry) => entry,
            Err(status) => {
                tracing::warn!(id, %status, "the record of a pull cannot be read; it is ended");
                let (code, message) = (status.code.number(), status.message);
                let end = msg::EndPullRequest { id, code, message, ..msg::EndPullRequest::default() };
                return journal.end(end).await.map(drop);
            }
        };
        if self.pulls().contains_key(&id) {
            // Found before, by a beginning that did not come to its end.
            return Ok(());
        }
        if self.config.take_up && entry.record.detached && !entry.lacks_credentials {
            entry.roused.send_replace(true);
        }
        tracing::info!(id, reference = entry.record.reference, "found a pull that was interrupted");
        self.pulls().insert(id.clone(), entry);
        self.launch(id, journal.clone(), true);
        Ok(())
    }

    /// Starts the task of a pull.
    pub(crate) fn launch(self: &Arc<Self>, id: String, journal: Journal, interrupted: bool) {
        let Some((reference, namespace)) =
            self.pulls().get(&id).map(|entry| (entry.record.reference.clone(), entry.record.namespace.clone()))
        else {
            return;
        };
        let span = tracing::info_span!("pull", id, reference, namespace);
        if let Some(entry) = self.pulls().get_mut(&id) {
            if interrupted {
                let begun_in = entry.record.traceparent.as_str();
                context::adopt(&span, |name| (name == context::HEADERS[0] && !begun_in.is_empty()).then_some(begun_in));
            }
            entry.trace = context::outgoing(&span);
        }
        let (book, closing) = (Arc::clone(self), self.closing.clone());
        let living = async move {
            let life = Box::pin(life::live(&book, &id, &journal, interrupted));
            let lived = closing.run_until_cancelled(life).await;
            if lived.is_none() {
                tracing::info!("the service stops; the pull goes on when it is back");
            }
            lived.flatten()
        };
        let living = living.instrument(span);
        self.lives.spawn(async move {
            // Told when the pull's span is over: who hears it may leave at once, and take this process along.
            let ended = living.await;
            if let Some(ended) = ended {
                ended.tell();
            }
        });
    }

    /// The work of a pull, as its entry says it now.
    pub(crate) fn pull(&self, id: &str) -> Result<Pull, Status> {
        let mut pulls = self.pulls();
        let entry = pulls.get_mut(id).ok_or_else(|| unknown(id))?;
        Ok(Pull {
            id: id.to_owned(),
            wish: entry.wish.clone(),
            board: Arc::clone(&entry.board),
            bus: self.bus.clone(),
            content: Arc::new(ContentClient::new(self.bus.clone())),
            metadata: Arc::new(MetadataClient::new(self.bus.clone())),
            fetcher: Arc::clone(&self.fetcher),
            unpacker: Arc::new(UnpackerClient::new(self.bus.clone())),
            work: Arc::clone(&self.work),
            weight: Arc::clone(&entry.weight),
            ahead: Mutex::new(entry.ahead.take()),
        })
    }

    /// Snapshots that were prepared for a pull, and not used.
    pub(crate) fn left_by(&self, id: &str) -> Vec<msg::end_pull_request::Unfilled> {
        self.work.prepared.left_by(id)
    }

    /// Drops ended pulls that were remembered long enough; their records stay.
    pub(crate) fn forget(&self, pulls: &mut HashMap<String, Entry>) {
        let remember = self.config.remember;
        pulls.retain(|_, entry| entry.ended.is_none_or(|ended| ended.elapsed() < remember));
        let mut ended: Vec<Instant> = pulls.values().filter_map(|entry| entry.ended).collect();
        if ended.len() > MAX_REMEMBERED {
            ended.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = ended.get(MAX_REMEMBERED - 1).copied();
            pulls.retain(|_, entry| entry.ended.is_none_or(|ended| oldest.is_none_or(|oldest| ended >= oldest)));
        }
    }

    /// Ends all tasks where they are, and lets whoever leads next have the pulls at once.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.lives.close();
        self.lives.wait().await;
        // In one process all services end together: nobody is there to be told, and nobody waits.
        if let Some(journal) = self.journal.get().filter(|_| self.bus.is_remote())
            && tokio::time::timeout(GOODBYE, journal.hold(true)).await.is_err()
        {
            tracing::debug!("the end of the term could not be told");
        }
    }

    /// What calls are answered that come while it closes, so that they are sent to whoever leads next.
    pub(crate) fn closed() -> Status {
        Status::unavailable("the transfer service is stopping; its pulls go on when it is back")
    }
}

pub(crate) fn unknown(id: &str) -> Status {
    Status::not_found(format!("no pull {id} is known: there was none, or it ended long ago; pull again"))
}
