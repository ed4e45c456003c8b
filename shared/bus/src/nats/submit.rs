//! The submitter's side of a job: stores it, listens for its signals, and decides what silence means.
//!
//! The rule, checked when nothing was heard of a job for the bus's `wait` (30 s), and shortly after every reconnect:
//!
//! - The stream no longer holds the job, and no verdict came: it got lost (the verdict's message, or the server's data).
//!   Submit it again; handlers are idempotent, so done work finds itself done. At most [`MAX_LOSSES`] times.
//! - The stream holds it and some worker of its kind is alive: the workers are busy. Wait, without limit.
//! - The stream holds it and no worker of its kind was heard for `wait`: withdraw it and report that nobody does it.
//! - The stream cannot be asked for as long as `wait`: report that the server is away.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use berth_model::Status;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Nats;
use super::liveness::HEARTBEAT;
use super::replies::Replying;
use super::streams::Kind;
use crate::frame;
use crate::job::{ProgressSender, RawHandle};
use crate::trace::Headers;

/// How often a job that got lost is submitted again.
const MAX_LOSSES: u32 = 5;
/// After a reconnect, what was on its way gets this long to arrive before the stream is asked.
const SETTLE: Duration = Duration::from_secs(1);

impl Nats {
    pub(crate) async fn submit(
        self: &Arc<Self>,
        kind: &'static str,
        key: String,
        body: Bytes,
        mut headers: Headers,
    ) -> Result<RawHandle, Status> {
        let id = uuid::Uuid::now_v7().to_string();
        headers.push((frame::JOB_ID.to_owned(), id.clone()));
        headers.push((frame::JOB_KEY.to_owned(), key));
        let workers = self.workers_heard(kind).await;
        // Before the job is published, so that no signal of it is missed.
        let replying = self.replying(kind, &id).await.map_err(|error| {
            Status::unavailable(format!("could not listen for the `{kind}` job at {}: {error}", self.link.url))
        })?;
        let (progress, progress_seen) = watch::channel(None);
        let (verdict, verdict_seen) = oneshot::channel();
        let cancel = CancellationToken::new();
        let mut follower = Follower {
            nats: Arc::clone(self),
            kind,
            id,
            body,
            headers,
            sequence: 0,
            submissions: 0,
            progress: Arc::new(progress),
            workers,
            cancel: cancel.clone(),
            since: Instant::now(),
            heard: Instant::now(),
            answered: Instant::now(),
        };
        follower.store().await?;
        tokio::spawn(async move {
            if let Some(end) = follower.follow(replying).await {
                // A submitter that went away in this instant is no error.
                drop(verdict.send(end));
            }
        });
        Ok(RawHandle { progress: progress_seen, verdict: verdict_seen, _cancel: cancel.drop_guard() })
    }
}

/// Follows one job to its end.
struct Follower {
    nats: Arc<Nats>,
    kind: &'static str,
    id: String,
    body: Bytes,
    headers: Headers,
    /// Where the stream keeps it.
    sequence: u64,
    submissions: u32,
    progress: ProgressSender,
    workers: watch::Receiver<Option<Instant>>,
    cancel: CancellationToken,
    /// When it was submitted.
    since: Instant,
    /// When a signal of it came last.
    heard: Instant,
    /// When the stream last answered a question.
    answered: Instant,
}

impl Follower {
    async fn store(&mut self) -> Result<(), Status> {
        self.submissions += 1;
        if self.submissions == 2 {
            self.headers.push((frame::JOB_AGAIN.to_owned(), "1".to_owned()));
        }
        // One id per submission: a repeated publish is stored once, a repeated submission again.
        let message_id = format!("{}.{}", self.id, self.submissions);
        let subject = self.nats.names.job(self.kind);
        self.sequence = self
            .nats
            .store(Kind::Jobs, &subject, &message_id, &self.headers, self.body.clone(), self.nats.wait.max(HEARTBEAT))
            .await?;
        Ok(())
    }

    /// The verdict, or nothing if the job was cancelled.
    async fn follow(&mut self, mut replying: Replying) -> Option<Result<Bytes, Status>> {
        let mut breaks = self.nats.link.breaks();
        let mut check_at = self.heard + self.patience();
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    self.withdraw().await;
                    return None;
                }
                changed = replying.news.changed() => {
                    // It fails when the bus is gone.
                    changed.ok()?;
                    let news = replying.news.borrow_and_update().clone();
                    self.heard = news.heard;
                    check_at = self.heard + self.patience();
                    if news.progress.is_some() && news.progress != *self.progress.borrow() {
                        drop(self.progress.send_replace(news.progress));
                    }
                    if news.verdict.is_some() {
                        return news.verdict;
                    }
                }
                _broken = breaks.changed() => check_at = Instant::now() + SETTLE,
                () = tokio::time::sleep_until(check_at) => {
                    let cancel = self.cancel.clone();
                    if let Some(Err(status)) = cancel.run_until_cancelled(self.check()).await {
                        self.withdraw().await;
                        return Some(Err(status));
                    }
                    check_at = Instant::now() + if self.nats.link.is_connected() { self.patience() } else { SETTLE };
                }
            }
        }
    }

    /// How long silence is nothing to worry about.
    fn patience(&self) -> Duration {
        self.nats.wait.max(HEARTBEAT + SETTLE)
    }

    /// Applies the rule.
    async fn check(&mut self) -> Result<(), Status> {
        match self.is_stored().await {
            None if self.answered.max(self.heard).elapsed() < self.patience() => Ok(()),
            None => Err(Status::unavailable(format!(
                "the NATS server at {} does not answer for the `{}` job",
                self.nats.link.url, self.kind
            ))),
            Some(false) if self.submissions > MAX_LOSSES => Err(Status::unavailable(format!(
                "the `{}` job got lost {MAX_LOSSES} times at {}; see the logs of its workers",
                self.kind, self.nats.link.url
            ))),
            Some(false) => {
                tracing::debug!(kind = self.kind, id = self.id, "the job got lost; submitting it again");
                self.store().await?;
                self.heard = Instant::now();
                Ok(())
            }
            Some(true) => {
                let worker = self.workers.borrow().unwrap_or(self.since);
                if worker.max(self.heard).elapsed() < self.patience() {
                    return Ok(());
                }
                let (kind, url) = (self.kind, &self.nats.link.url);
                Err(Status::unavailable(format!(
                    "no worker for `{kind}` jobs on the bus at {url}; start one with `berth serve {} --nats {url}`",
                    worker_of(kind)
                )))
            }
        }
    }

    /// Whether the stream still holds the job; nothing when it cannot be asked.
    async fn is_stored(&mut self) -> Option<bool> {
        if !self.nats.link.is_connected() {
            return None;
        }
        let stream = match self.nats.ensure(Kind::Jobs).await {
            Ok(stream) => stream,
            Err(status) => {
                tracing::debug!(%status, "cannot ask for the job");
                return None;
            }
        };
        let stored = match stream.get_raw_message(self.sequence).await {
            // After a loss of data the server may have given the number to another message.
            Ok(message) => message.headers.get(frame::JOB_ID).is_some_and(|id| id.as_str() == self.id),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => false,
                LastRawMessageErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::NO_MESSAGE_FOUND || error.code() == 404 =>
                {
                    false
                }
                other => {
                    tracing::debug!(error = %other, "cannot ask for the job");
                    return None;
                }
            },
        };
        self.answered = Instant::now();
        Some(stored)
    }

    /// Tells its worker, and takes it out of the stream if it is still there. Best effort.
    async fn withdraw(&mut self) {
        self.nats.link.tell(self.nats.names.job_cancel(self.kind, &self.id), HeaderMap::new(), Bytes::new()).await;
        if self.is_stored().await != Some(true) {
            return;
        }
        let stream = self.nats.jetstream.get_stream_no_info(self.nats.names.jobs_stream()).await;
        let Ok(stream) = stream else { return };
        if let Err(error) = stream.delete_message(self.sequence).await {
            tracing::debug!(kind = self.kind, id = self.id, %error, "the job could not be withdrawn");
        }
    }
}

/// The service whose workers do jobs of `kind`, for the remedy: `fetch` is done by the `fetcher`.
fn worker_of(kind: &str) -> String {
    let verb = kind.split('.').next().unwrap_or(kind);
    match verb {
        "fetch" | "unpack" => format!("{verb}er"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::worker_of;

    #[test]
    fn the_remedy_names_the_service() {
        for (kind, service) in
            [("fetch", "fetcher"), ("unpack", "unpacker"), ("unpack.v1", "unpacker"), ("transfer", "transfer")]
        {
            assert_eq!(worker_of(kind), service);
        }
    }
}
