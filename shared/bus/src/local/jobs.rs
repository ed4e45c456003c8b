//! Jobs in-process: a bounded queue per kind, taken from by as many lanes as its workers run at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use berth_model::Status;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::dead::Graveyard;
use super::{Local, lock};
use crate::attempt::{Work, attempt};
use crate::dead::{DeadLetter, is_dead};
use crate::frame::{JOB_AGAIN, LOCAL_MAX_PAYLOAD};
use crate::job::{JobHandler, ProgressSender, RawHandle, Run};
use crate::queue::{self, QueueState, WorkerState};
use crate::serving::{Life, Serving};
use crate::trace::Headers;
use crate::verdict::{MAX_DELIVERIES, Verdict, judge, worn_out};

/// A job in its queue: what cancels it, and what tells of it.
type Enqueued = (CancellationToken, (watch::Receiver<Option<Bytes>>, oneshot::Receiver<Result<Bytes, Status>>));

/// Jobs of one kind that are not done yet: waiting, running, or pausing before a retry.
const UNDONE: usize = 1024;

/// The queue of each kind.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queues: Mutex<HashMap<&'static str, Arc<Queue>>>,
}

/// The jobs of one kind.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<VecDeque<Arc<Entry>>>,
    /// One permit per push; a pop that finds a job withdrawn just goes on.
    ready: Semaphore,
    room: Arc<Semaphore>,
    workers: watch::Sender<usize>,
    /// Jobs that all workers together run at most.
    places: AtomicUsize,
}

/// One job, from submission to verdict.
#[derive(Debug)]
struct Entry {
    work: Work,
    deliveries: AtomicU32,
    progress: ProgressSender,
    verdict: Mutex<Option<oneshot::Sender<Result<Bytes, Status>>>>,
    /// What the work is about.
    key: String,
    /// When it was submitted.
    since: Instant,
    /// The submitter no longer wants it.
    cancel: CancellationToken,
    /// The verdict was given.
    settled: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Entry {
    /// Gives the verdict; the first one counts.
    fn settle(&self, verdict: Result<Bytes, Status>) {
        if let Some(sender) = lock(&self.verdict).take() {
            // A submitter that went away is no error.
            drop(sender.send(verdict));
        }
        self.settled.cancel();
    }
}

impl Jobs {
    fn queue(&self, kind: &'static str) -> Arc<Queue> {
        Arc::clone(lock(&self.queues).entry(kind).or_insert_with(|| Arc::new(Queue::new())))
    }
}

impl Queue {
    fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Semaphore::new(0),
            room: Arc::new(Semaphore::new(UNDONE)),
            workers: watch::Sender::new(0),
            places: AtomicUsize::new(0),
        }
    }

    fn push(&self, entry: Arc<Entry>) {
        lock(&self.waiting).push_back(entry);
        self.ready.add_permits(1);
    }

    /// Puts back a job whose worker stopped; it was first, and is first again.
    fn push_first(&self, entry: Arc<Entry>) {
        lock(&self.waiting).push_front(entry);
        self.ready.add_permits(1);
    }

    async fn pop(&self) -> Arc<Entry> {
        loop {
            match self.ready.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_closed) => std::future::pending().await,
            }
            let entry = lock(&self.waiting).pop_front();
            if let Some(entry) = entry.filter(|entry| !entry.settled.is_cancelled()) {
                return entry;
            }
        }
    }

    /// Takes a job out that waits; one that runs stays with its worker.
    fn withdraw(&self, entry: &Arc<Entry>) -> bool {
        let mut waiting = lock(&self.waiting);
        let before = waiting.len();
        waiting.retain(|other| !Arc::ptr_eq(other, entry));
        waiting.len() < before
    }

    /// Returns once there was no worker for as long as `wait`.
    async fn deserted(&self, wait: Duration) {
        let mut workers = self.workers.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        while workers.wait_for(|count| *count == 0).await.is_ok() {
            if tokio::time::timeout(wait, workers.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Watches over a job until it has its verdict: cancellation while it waits, and the absence of workers.
    async fn follow(&self, entry: &Arc<Entry>, wait: Duration) {
        let kind = entry.work.kind;
        tokio::select! {
            () = entry.settled.cancelled() => {}
            () = entry.cancel.cancelled() => {
                if self.withdraw(entry) {
                    entry.settle(Err(Status::cancelled(format!("the `{kind}` job was cancelled"))));
                }
            }
            () = self.deserted(wait) => {
                self.withdraw(entry);
                entry.settle(Err(Status::unavailable(format!("no worker for `{kind}` jobs in this process; is it part of what `berth serve` was told to run?"))));
            }
        }
    }
}

impl Local {
    pub(crate) fn submit(
        &self,
        kind: &'static str,
        key: String,
        body: Bytes,
        headers: Headers,
    ) -> Result<RawHandle, Status> {
        let (cancel, handle) = self.enqueue(kind, key, body, headers)?;
        Ok(RawHandle { progress: handle.0, verdict: handle.1, _cancel: cancel.drop_guard() })
    }

    /// Puts a job back that nobody waits for.
    pub(super) fn put_back(&self, letter: DeadLetter) -> Result<(), Status> {
        // A kind that was ever submitted here has its queue.
        let kind = lock(&self.jobs.queues).keys().copied().find(|kind| *kind == letter.kind);
        let kind = kind.ok_or_else(|| Status::not_found(format!("nobody here knows `{}` jobs", letter.kind)))?;
        let mut headers = letter.headers;
        headers.push((JOB_AGAIN.to_owned(), "1".to_owned()));
        self.enqueue(kind, letter.key, letter.body, headers).map(drop)
    }

    fn enqueue(&self, kind: &'static str, key: String, body: Bytes, headers: Headers) -> Result<Enqueued, Status> {
        let queue = self.jobs.queue(kind);
        let Ok(room) = Arc::clone(&queue.room).try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!(
                "{UNDONE} `{kind}` jobs are waiting or running already; try again later"
            )));
        };
        let (progress, progress_seen) = watch::channel(None);
        let (verdict, verdict_seen) = oneshot::channel();
        let cancel = CancellationToken::new();
        let id = uuid::Uuid::now_v7().to_string();
        let entry = Arc::new(Entry {
            work: Work { kind, id, body, headers, max_payload: LOCAL_MAX_PAYLOAD },
            deliveries: AtomicU32::new(0),
            progress: Arc::new(progress),
            verdict: Mutex::new(Some(verdict)),
            key,
            since: Instant::now(),
            cancel: cancel.clone(),
            settled: CancellationToken::new(),
            _room: room,
        });
        queue.push(Arc::clone(&entry));
        let wait = self.wait;
        tokio::spawn(async move { queue.follow(&entry, wait).await });
        Ok((cancel, (progress_seen, verdict_seen)))
    }

    /// How queues stand. All workers of this process are one.
    pub(crate) fn queues(&self, kinds: &[&'static str]) -> Vec<QueueState> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let state = |kind: &&'static str| {
            let queue = self.jobs.queue(kind);
            let (waiting, oldest) = {
                let waiting = lock(&queue.waiting);
                (waiting.len(), waiting.front().map(|entry| entry.since.elapsed()))
            };
            let running = UNDONE.saturating_sub(queue.room.available_permits()).saturating_sub(waiting);
            let (busy, places) = (count(running), count(queue.places.load(Ordering::Relaxed)));
            let worker = WorkerState { name: queue::own_name(), busy, places };
            QueueState {
                kind: (*kind).to_owned(),
                waiting: count(waiting).into(),
                oldest,
                running: busy.into(),
                workers: (places > 0).then_some(worker).into_iter().collect(),
            }
        };
        kinds.iter().map(state).collect()
    }

    pub(crate) fn work(&self, kind: &'static str, concurrency: usize, handler: JobHandler) -> Serving {
        let queue = self.jobs.queue(kind);
        let life = Life::default();
        queue.workers.send_modify(|count| *count += 1);
        queue.places.fetch_add(concurrency, Ordering::Relaxed);
        for _ in 0..concurrency {
            let lane = Lane {
                queue: Arc::clone(&queue),
                graveyard: Arc::clone(&self.graveyard),
                handler: Arc::clone(&handler),
                life: life.clone(),
            };
            life.tasks.spawn(async move { lane.run().await });
        }
        let (stop, queue) = (life.stop.clone(), Arc::clone(&queue));
        life.tasks.spawn(async move {
            stop.cancelled().await;
            queue.workers.send_modify(|count| *count -= 1);
            queue.places.fetch_sub(concurrency, Ordering::Relaxed);
        });
        Serving::of_jobs(life, None)
    }
}

/// Runs one job at a time.
struct Lane {
    queue: Arc<Queue>,
    graveyard: Arc<Graveyard>,
    handler: JobHandler,
    life: Life,
}

impl Lane {
    async fn run(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.life.stop.cancelled() => return,
                entry = self.queue.pop() => self.deliver(entry).await,
            }
        }
    }

    /// Ends a job in a way that a person may want to know of.
    fn give_up(&self, entry: &Entry, status: Status, attempts: u32) {
        let Work { kind, id, body, headers, .. } = entry.work.clone();
        self.graveyard.bury(DeadLetter {
            id,
            kind: kind.to_owned(),
            key: entry.key.clone(),
            status: status.clone(),
            attempts,
            at: SystemTime::now(),
            body,
            headers: headers.into_iter().filter(|(name, _)| name != JOB_AGAIN).collect(),
        });
        entry.settle(Err(status));
    }

    async fn deliver(&self, entry: Arc<Entry>) {
        let delivery = entry.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        if delivery > MAX_DELIVERIES {
            return self.give_up(&entry, worn_out(entry.work.kind), delivery);
        }
        let cancelled = || Err(Status::cancelled(format!("the `{}` job was cancelled", entry.work.kind)));
        if entry.cancel.is_cancelled() {
            return entry.settle(cancelled());
        }
        let run = Run::new(Arc::clone(&entry.progress), entry.cancel.clone(), delivery, &entry.work.headers);
        let hopeless = Arc::clone(&run.hopeless);
        let result = tokio::select! {
            biased;
            () = self.life.abort.cancelled() => {
                return if entry.cancel.is_cancelled() { entry.settle(cancelled()) } else { self.queue.push_first(Arc::clone(&entry)) };
            }
            result = attempt(&self.handler, entry.work.clone(), run) => result,
        };
        match judge(result, delivery, entry.cancel.is_cancelled() || hopeless.load(Ordering::Relaxed)) {
            Verdict::Done(outcome) => entry.settle(Ok(outcome)),
            Verdict::Reject(status) if !entry.cancel.is_cancelled() && is_dead(&status) => {
                self.give_up(&entry, status, delivery);
            }
            Verdict::Reject(status) => entry.settle(Err(status)),
            Verdict::Retry(pause, why) => {
                tracing::debug!(kind = entry.work.kind, id = entry.work.id, %why, ?pause, "job is tried again after a pause");
                let queue = Arc::clone(&self.queue);
                // Bounded by the room in the queue, which the entry holds; ends with the pause at the latest.
                tokio::spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => queue.push(entry),
                        () = entry.settled.cancelled() => {}
                        () = entry.cancel.cancelled() => entry.settle(Err(why)),
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let local = Local::new(Duration::from_secs(60));
        let held: Vec<_> =
            (0..UNDONE).map(|_| local.submit("k", String::new(), Bytes::new(), Headers::new()).unwrap()).collect();
        let refused = local.submit("k", String::new(), Bytes::new(), Headers::new()).unwrap_err();
        assert_eq!(refused.code, berth_model::Code::ResourceExhausted);
        drop(held);
    }
}
