//! The contract: equal pulls are one, watchers come and go, and the last one that leaves cancels what is not detached.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::transfer::Transfer;
use berth_bus::Bus;
use berth_model::{Code, Status};
use berth_telemetry::context;
use berth_wire::{fetcher::Access, metadata, transfer as msg};
use tracing::{Instrument as _, Span};

use crate::{
    Config,
    ahead::Ahead,
    board::Board,
    book::{Book, unknown},
    entry::Entry,
    find::find,
    journal, listing,
    wish::Wish,
};

/// More pulls than this at once are refused: each holds a task, a lease and its layers' jobs.
const MAX_RUNNING: usize = 1000;
/// A long poll never waits longer.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long a cancellation waits to see the pull ended.
const ENDING: Duration = Duration::from_secs(10);

/// The transfer service.
pub struct Service {
    pub(crate) book: Arc<Book>,
}

/// Its pulls stay where they are.
impl Drop for Service {
    fn drop(&mut self) {
        self.book.closing.cancel();
    }
}

/// What a start finds or makes.
enum Started {
    Attached(String),
    New(String, Box<metadata::PullRecord>),
}

impl Service {
    /// A service that works through this bus.
    #[must_use]
    pub fn new(bus: Bus, config: Config) -> Self {
        Self { book: Book::new(bus, config) }
    }

    /// Finds the pull that a request is about, or enters a new one.
    fn enter(&self, request: &msg::StartPullRequest, wish: Wish, ahead: Option<Ahead>) -> Result<Started, Status> {
        let mut pulls = self.book.pulls();
        self.book.forget(&mut pulls);
        let known = pulls.get(&request.pull_id).is_some_and(|entry| entry.wish.is_like(&wish));
        let id = if known {
            Some(request.pull_id.clone())
        } else {
            pulls.iter().find(|(_, entry)| entry.serves(&wish)).map(|(id, _)| id.clone())
        };
        if let Some((id, entry)) = id.and_then(|id| pulls.get_mut(&id).map(|entry| (id, entry))) {
            // Whoever joins has a trace of its own, which is no part of the pull's.
            let trace = entry.trace.clone();
            context::link(&Span::current(), |name| {
                trace.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
            });
            entry.give(&wish.access);
            entry.watched_by(&request.watcher);
            return Ok(Started::Attached(id));
        }
        if pulls.values().filter(|entry| entry.ended.is_none()).count() >= MAX_RUNNING {
            return Err(Status::resource_exhausted(format!(
                "{MAX_RUNNING} pulls are running already; try again when some are done"
            )));
        }
        let id = fresh_id();
        let mut record = wish.record(&id, request);
        record.traceparent = berth_bus::traceparent().unwrap_or_default();
        let mut entry = Entry::begun(wish, record.clone(), self.book.news.clone());
        entry.watched_by(&request.watcher);
        entry.ahead = Some(ahead.unwrap_or_else(|| self.ask(&entry.wish)));
        pulls.insert(id.clone(), entry);
        Ok(Started::New(id, Box::new(record)))
    }

    fn ask(&self, wish: &Wish) -> Ahead {
        Ahead::ask(Arc::clone(&self.book.fetcher), wish)
    }

    /// Waits until a pull that somebody else has begun is on disk.
    async fn stored(&self, id: &str) -> Result<(), Status> {
        let stored = self.book.pulls().get(id).map(|entry| entry.stored.subscribe());
        let Some(mut stored) = stored else { return Err(unknown(id)) };
        match stored.wait_for(Option::is_some).await {
            Ok(stored) => stored.clone().unwrap_or(Ok(())),
            Err(_gone) => Err(unknown(id)),
        }
    }

    /// An equal pull that runs takes over what is more in a new request: that it is detached, or more urgent.
    async fn raise(&self, id: &str, request: &msg::StartPullRequest) -> Result<(), Status> {
        let urgency = |priority| crate::wish::weight(priority);
        let update = match self.book.pulls().get(id) {
            Some(entry) if entry.ended.is_none() => metadata::UpdatePullRequest {
                id: id.to_owned(),
                detach: request.detached && !entry.record.detached,
                priority: (urgency(request.priority()) > urgency(entry.record.priority())).then_some(request.priority),
                ..metadata::UpdatePullRequest::default()
            },
            _ => return Ok(()),
        };
        if !update.detach && update.priority.is_none() {
            return Ok(());
        }
        match self.book.journal().await?.update(update).await {
            Ok(record) => {
                if let Some(entry) = self.book.pulls().get_mut(id).filter(|entry| entry.ended.is_none()) {
                    entry.take_priority(record);
                }
                Ok(())
            }
            // It ended meanwhile: its end is what the caller gets.
            Err(status) if status.code == Code::FailedPrecondition => Ok(()),
            Err(status) => Err(status),
        }
    }

    /// The pull that a person means; one that is over is known again for a while.
    async fn find(&self, namespace: &str, text: &str) -> Result<String, Status> {
        let request = metadata::ListPullRecordsRequest { namespace: namespace.to_owned(), ..Default::default() };
        let records = journal::all(&self.book.records, request).await?;
        let record = find(&records, text)?.clone();
        self.book.journal().await?;
        self.remember(record)
    }

    fn remember(&self, record: metadata::PullRecord) -> Result<String, Status> {
        let id = record.id.clone();
        let mut pulls = self.book.pulls();
        if !pulls.contains_key(&id) {
            if record.state() == metadata::pull_record::State::Running {
                return Err(unknown(&id));
            }
            pulls.insert(id.clone(), Entry::found(record, self.book.news.clone())?);
        }
        Ok(id)
    }

    /// One that is not known here, but may have ended before a restart.
    async fn recall(&self, id: &str) -> Result<(), Status> {
        if id.is_empty() || self.book.pulls().contains_key(id) {
            return Ok(());
        }
        match self.book.records.get_pull_record(metadata::GetPullRecordRequest { id: id.to_owned() }).await {
            Ok(record) if record.state() != metadata::pull_record::State::Running => self.remember(record).map(drop),
            Ok(_runs_elsewhere) => Ok(()),
            Err(status) if status.code == Code::NotFound => Ok(()),
            Err(status) => Err(status),
        }
    }

    async fn unless_closed<T>(&self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match self.book.closing.run_until_cancelled(answer).await {
            Some(answer) => answer,
            None => Err(Book::closed()),
        }
    }
}

/// Twelve hexadecimal digits: people type them.
fn fresh_id() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect()
}

#[async_trait::async_trait]
impl Transfer for Service {
    async fn start_pull(&self, request: msg::StartPullRequest) -> Result<msg::StartPullReply, Status> {
        let wish = Wish::of_request(&request)?;
        self.unless_closed(async {
            // Where metadata has yet to open its store, the registry answers meanwhile. Whether the pull is a new one is
            // only known then; one that came back is hardly ever the first that is asked for.
            let ahead = (!self.book.has_begun() && request.pull_id.is_empty()).then(|| self.ask(&wish));
            let journal = self.book.journal().await?;
            self.recall(&request.pull_id).await?;
            let (id, record) = match self.enter(&request, wish, ahead)? {
                Started::New(id, record) => (id, record),
                Started::Attached(id) => {
                    self.stored(&id).await?;
                    self.raise(&id, &request).await?;
                    return Ok(msg::StartPullReply { pull_id: id, attached: true });
                }
            };
            // In a task of its own: a caller that goes away in the middle must not leave it half begun.
            let (book, journal, pull_id) = (Arc::clone(&self.book), journal.clone(), id.clone());
            let begin = async move {
                let created = journal.create(*record).await;
                let mut pulls = book.pulls();
                let Some(entry) = pulls.get_mut(&id) else { return Err(unknown(&id)) };
                match created {
                    Ok(record) => {
                        entry.record = record;
                        entry.stored.send_replace(Some(Ok(())));
                        drop(pulls);
                        book.launch(id, journal, false);
                        Ok(())
                    }
                    Err(status) => {
                        entry.stored.send_replace(Some(Err(status.clone())));
                        pulls.remove(&id);
                        Err(status)
                    }
                }
            };
            let begun = tokio::spawn(begin.in_current_span());
            begun.await.map_err(|error| Status::internal(format!("a pull could not begin: {error}")))??;
            Ok(msg::StartPullReply { pull_id, attached: false })
        })
        .await
    }

    async fn watch_pull(&self, request: msg::WatchPullRequest) -> Result<msg::PullState, Status> {
        self.unless_closed(async {
            self.recall(&request.pull_id).await?;
            let board = {
                let mut pulls = self.book.pulls();
                let entry = pulls.get_mut(&request.pull_id).ok_or_else(|| unknown(&request.pull_id))?;
                entry.watched_by(&request.watcher);
                Arc::clone(&entry.board)
            };
            let wait = Duration::from_millis(u64::from(request.wait_ms)).min(MAX_WAIT);
            let state = board.news(request.seen, wait.min(self.book.config.abandoned_after / 2)).await;
            if let Some(entry) = self.book.pulls().get_mut(&request.pull_id) {
                entry.still_watched_by(&request.watcher);
            }
            Ok(state)
        })
        .await
    }

    async fn leave_pull(&self, request: msg::LeavePullRequest) -> Result<msg::LeavePullReply, Status> {
        let mut pulls = self.book.pulls();
        let entry = pulls.get_mut(&request.pull_id).ok_or_else(|| unknown(&request.pull_id))?;
        if entry.left_by(&request.watcher, self.book.config.abandoned_after) {
            entry.cancel.cancel();
        }
        Ok(msg::LeavePullReply {})
    }

    async fn attach_pull(&self, request: msg::AttachPullRequest) -> Result<msg::StartPullReply, Status> {
        self.unless_closed(async {
            let pull_id = self.find(&request.namespace, &request.pull).await?;
            if let Some(entry) = self.book.pulls().get_mut(&pull_id) {
                entry.watched_by(&request.watcher);
            }
            Ok(msg::StartPullReply { pull_id, attached: true })
        })
        .await
    }

    async fn cancel_pull(&self, request: msg::CancelPullRequest) -> Result<msg::CancelPullReply, Status> {
        self.unless_closed(async {
            let pull_id = self.find(&request.namespace, &request.pull).await?;
            let board: Arc<Board> = {
                let pulls = self.book.pulls();
                let entry = pulls.get(&pull_id).ok_or_else(|| unknown(&pull_id))?;
                if entry.ended.is_some() {
                    let reference = &entry.record.reference;
                    return Err(Status::failed_precondition(format!("pull {pull_id} of {reference} is over already")));
                }
                entry.cancel.cancel();
                Arc::clone(&entry.board)
            };
            // Whoever asks next shall find it ended.
            drop(tokio::time::timeout(ENDING, board.over()).await);
            Ok(msg::CancelPullReply { pull_id })
        })
        .await
    }

    async fn list_pulls(&self, request: msg::ListPullsRequest) -> Result<msg::ListPullsReply, Status> {
        listing::list(&self.book, request).await
    }

    async fn watch_pulls(&self, request: msg::WatchPullsRequest) -> Result<msg::WatchPullsReply, Status> {
        let wait = Duration::from_millis(u64::from(request.wait_ms)).min(MAX_WAIT);
        self.unless_closed(async { Ok(listing::watch(&self.book, &request, wait).await) }).await
    }

    async fn get_access(&self, request: msg::GetAccessRequest) -> Result<Access, Status> {
        let pulls = self.book.pulls();
        let entry = pulls.get(&request.pull_id).filter(|entry| entry.ended.is_none());
        entry.map(|entry| entry.wish.access.clone()).ok_or_else(|| unknown(&request.pull_id))
    }
}

/// Whether it ended so short a time ago that a list of what goes on shows it.
pub(crate) fn just_ended(ended: Instant) -> bool {
    ended.elapsed() < Duration::from_secs(60)
}
