//! The job verb: work that is done at least once by any worker of its kind, seen from the submitter and the worker.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_model::Status;
use berth_wire::Job;
use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::frame;
use crate::trace::Headers;

/// A worker's handler below the types.
pub(crate) type JobHandler = Arc<dyn Fn(Bytes, Run) -> BoxFuture<'static, Result<Bytes, Status>> + Send + Sync>;
/// Carries the latest progress of a job, encoded.
pub(crate) type ProgressSender = Arc<watch::Sender<Option<Bytes>>>;

/// A submitted job as its submitter sees it, below the types.
#[derive(Debug)]
pub(crate) struct RawHandle {
    pub(crate) progress: watch::Receiver<Option<Bytes>>,
    pub(crate) verdict: oneshot::Receiver<Result<Bytes, Status>>,
    /// Cancels the job when the handle goes.
    pub(crate) _cancel: DropGuard,
}

/// What became known of a job.
#[derive(Debug)]
pub enum JobUpdate<J: Job> {
    /// The worker reported progress; reports in between may have been skipped.
    Progress(J::Progress),
    /// The job ended.
    Done(Result<J::Outcome, Status>),
}

/// A submitted job. Dropping it before the job is done cancels the job, best effort.
pub struct JobHandle<J: Job> {
    raw: RawHandle,
    progress_open: bool,
    done: Option<Result<J::Outcome, Status>>,
}

impl<J: Job> JobHandle<J> {
    pub(crate) fn new(raw: RawHandle) -> Self {
        Self { raw, progress_open: true, done: None }
    }

    /// Waits for the next news. After [`JobUpdate::Done`] it gives the same `Done` again. Cancel-safe.
    pub async fn next(&mut self) -> JobUpdate<J> {
        if let Some(done) = &self.done {
            return JobUpdate::Done(done.clone());
        }
        loop {
            // Progress first: a report that was made before the verdict is seen before it.
            tokio::select! {
                biased;
                changed = self.raw.progress.changed(), if self.progress_open => {
                    self.progress_open = changed.is_ok();
                    let latest = self.raw.progress.borrow_and_update().clone();
                    if let (true, Some(progress)) = (self.progress_open, latest.and_then(decode_progress::<J>)) {
                        return JobUpdate::Progress(progress);
                    }
                }
                verdict = &mut self.raw.verdict => {
                    let verdict = verdict.unwrap_or_else(|_gone| Err(Status::unavailable(format!("the bus went away before the `{}` job was done", J::KIND))));
                    let done = verdict.and_then(|body| frame::decode(body, &format!("the outcome of the `{}` job", J::KIND)));
                    self.done = Some(done.clone());
                    return JobUpdate::Done(done);
                }
            }
        }
    }

    /// Waits for the end.
    pub async fn outcome(mut self) -> Result<J::Outcome, Status> {
        loop {
            if let JobUpdate::Done(outcome) = self.next().await {
                return outcome;
            }
        }
    }
}

impl<J: Job> fmt::Debug for JobHandle<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("kind", &J::KIND).field("done", &self.done.is_some()).finish_non_exhaustive()
    }
}

fn decode_progress<J: Job>(body: Bytes) -> Option<J::Progress> {
    frame::decode(body, "progress")
        .inspect_err(|status| tracing::debug!(kind = J::KIND, %status, "progress skipped"))
        .ok()
}

/// One attempt at a job, below the types.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) progress: ProgressSender,
    pub(crate) cancel: CancellationToken,
    pub(crate) attempt: u32,
    /// Nobody was handed the job before.
    pub(crate) first: bool,
    /// The handler said that another attempt will not end better.
    pub(crate) hopeless: Arc<AtomicBool>,
}

impl Run {
    pub(crate) fn new(progress: ProgressSender, cancel: CancellationToken, attempt: u32, headers: &Headers) -> Self {
        let first = attempt == 1 && !headers.iter().any(|(name, _)| name == frame::JOB_AGAIN);
        Self { progress, cancel, attempt, first, hopeless: Arc::default() }
    }
}

/// What a worker's handler knows of its job, and how it reports.
pub struct JobContext<J: Job> {
    run: Run,
    job: PhantomData<fn() -> J>,
}

impl<J: Job> JobContext<J> {
    pub(crate) fn new(run: Run) -> Self {
        Self { run, job: PhantomData }
    }

    /// Reports how far the job is. Never waits; the submitter sees the latest report, not necessarily each.
    pub fn progress(&self, progress: J::Progress) {
        self.run.progress.send_replace(Some(Bytes::from(progress.encode_to_vec())));
    }

    /// Waits until the submitter no longer wants the job. The handler then has 5 s to end before it is dropped.
    pub async fn cancelled(&self) {
        self.run.cancel.cancelled().await;
    }

    /// Whether the submitter no longer wants the job.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.run.cancel.is_cancelled()
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.run.attempt
    }

    /// Whether nobody was ever handed this job: neither an earlier attempt, nor before it got lost on the bus and was handed in
    /// again, nor before it was given up and put back.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.run.first
    }

    /// Says that the error this attempt ends with is final, although its code is one that often passes: whoever does
    /// the job has tried for as long as makes sense.
    pub fn give_up(&self) {
        self.run.hopeless.store(true, Ordering::Relaxed);
    }

    /// The token behind [`JobContext::cancelled`].
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.run.cancel.clone()
    }
}

impl<J: Job> Clone for JobContext<J> {
    fn clone(&self) -> Self {
        Self::new(self.run.clone())
    }
}

impl<J: Job> fmt::Debug for JobContext<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext").field("kind", &J::KIND).field("attempt", &self.run.attempt).finish_non_exhaustive()
    }
}
