//! The worker's side of jobs: asks the stream for as many as it has free places, and runs each to its verdict.
//!
//! A worker never holds more jobs than it runs. It begins anew whenever the connection broke or the stream or the
//! consumer vanished.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use berth_model::{Code, Status};
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Nats, header};
use crate::backoff::Backoff;
use crate::frame;
use crate::job::JobHandler;
use crate::serving::{Life, Serving};

/// How long one request for a job stays with the server.
const ASK: Duration = Duration::from_secs(15);
/// A place for a job is as much as so many small jobs take.
const PLACE: usize = 8;
/// Cancellations remembered for jobs that are still on their way to this worker.
const REMEMBERED: usize = 1024;

/// What takes jobs of one kind and runs them.
pub(super) struct Worker {
    pub(super) nats: Arc<Nats>,
    pub(super) kind: &'static str,
    pub(super) handler: JobHandler,
    pub(super) life: Life,
    cancels: Mutex<Cancels>,
}

/// Cancellations by job id.
#[derive(Debug, Default)]
struct Cancels {
    running: HashMap<String, CancellationToken>,
    early: VecDeque<String>,
}

impl Worker {
    fn cancels(&self) -> MutexGuard<'_, Cancels> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of a job that begins; cancelled already if that news came first. `None`: it runs here already. (A
    /// server, seen with 2.9.10, may hand a job out twice at once.)
    pub(super) fn begin(&self, id: &str) -> Option<CancellationToken> {
        let token = CancellationToken::new();
        let mut cancels = self.cancels();
        if cancels.running.contains_key(id) {
            return None;
        }
        if cancels.early.iter().any(|early| early == id) {
            token.cancel();
        }
        cancels.running.insert(id.to_owned(), token.clone());
        Some(token)
    }

    pub(super) fn end(&self, id: &str) {
        self.cancels().running.remove(id);
    }

    fn cancel(&self, id: &str) {
        let mut cancels = self.cancels();
        if let Some(token) = cancels.running.get(id) {
            return token.cancel();
        }
        cancels.early.push_back(id.to_owned());
        if cancels.early.len() > REMEMBERED {
            cancels.early.pop_front();
        }
    }

    /// Takes jobs until the worker is to stop, and begins anew whenever something is wrong with the consumer.
    async fn take(self: Arc<Self>, concurrency: usize) {
        let places = Arc::new(Semaphore::new(concurrency.saturating_mul(PLACE)));
        let mut backoff = Backoff::quick();
        while !self.life.stop.is_cancelled() {
            let consumer = match self.nats.job_consumer(self.kind).await {
                Ok(consumer) => consumer,
                Err(status) => {
                    self.complain(&status);
                    self.pause(&mut backoff).await;
                    continue;
                }
            };
            let begun = Instant::now();
            if let Err(error) = self.take_from(&consumer, &places).await {
                tracing::debug!(kind = self.kind, error, "cannot take jobs from the consumer; looking it up again");
            }
            if begun.elapsed() > ASK {
                backoff = Backoff::quick();
            }
            self.pause(&mut backoff).await;
        }
    }

    /// A server that is away comes back; anything else needs a person.
    fn complain(&self, status: &Status) {
        if status.code == Code::Unavailable {
            tracing::debug!(kind = self.kind, %status, "cannot take jobs; trying again");
        } else {
            tracing::warn!(kind = self.kind, %status, "cannot take jobs; trying again");
        }
    }

    async fn pause(&self, backoff: &mut Backoff) {
        tokio::select! {
            () = self.life.stop.cancelled() => {}
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }

    /// Asks for as many jobs as there are free places, again and again, until the connection breaks or the worker is to
    /// stop; fails when something is wrong with the consumer. What will come is not known, so each job that is asked for has a
    /// whole place kept for it; a small one leaves the rest of it to others.
    async fn take_from(
        self: &Arc<Self>,
        consumer: &Consumer<pull::Config>,
        places: &Arc<Semaphore>,
    ) -> Result<(), String> {
        let mut breaks = self.nats.link.breaks();
        let mut over = std::pin::pin!(async {
            tokio::select! {
                () = self.life.stop.cancelled() => {}
                _broken = breaks.changed() => {}
            }
        });
        loop {
            let mut free = tokio::select! {
                biased;
                () = &mut over => return Ok(()),
                one = Arc::clone(places).acquire_many_owned(count(PLACE)) => match one {
                    Ok(one) => one,
                    Err(_closed) => return Ok(()),
                },
            };
            let more = places.available_permits() / PLACE * PLACE;
            if let Ok(more) = Arc::clone(places).try_acquire_many_owned(count(more)) {
                free.merge(more);
            }
            let request = consumer.batch().max_messages(free.num_permits() / PLACE).expires(ASK).messages();
            let mut batch = request.await.map_err(|error| error.to_string())?;
            loop {
                let message = tokio::select! {
                    biased;
                    () = &mut over => return Ok(()),
                    message = batch.next() => message,
                };
                let Some(message) = message else { break };
                let message = message.map_err(|error| error.to_string())?;
                let small = header(message.headers.as_ref(), frame::JOB_SMALL).is_some();
                // The rest of its place is free at once, also while more of the batch is waited for.
                let mut place = free.split(PLACE);
                if small && let Some(place) = &mut place {
                    drop(place.split(PLACE - 1));
                }
                let worker = Arc::clone(self);
                self.life.tasks.spawn(async move {
                    worker.deliver(message).await;
                    drop(place);
                });
            }
        }
    }
}

/// Permits are counted in 32 bits.
fn count(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}

impl Nats {
    pub(crate) async fn work(
        self: &Arc<Self>,
        kind: &'static str,
        concurrency: usize,
        handler: JobHandler,
    ) -> Result<Serving, Status> {
        self.first_consumer(kind).await?;
        let mut news = self.link.client.subscribe(self.names.job_cancel(kind, "*")).await.map_err(|error| {
            Status::unavailable(format!("could not listen for cancellations at {}: {error}", self.link.url))
        })?;
        self.flush().await;
        let life = Life::default();
        let worker =
            Arc::new(Worker { nats: Arc::clone(self), kind, handler, life: life.clone(), cancels: Mutex::default() });
        life.tasks.spawn(Arc::clone(&worker).take(concurrency));
        let counted = Arc::downgrade(&worker);
        let busy = move || counted.upgrade().map_or(0, |worker| worker.cancels().running.len().min(concurrency));
        let beating = Arc::clone(self);
        let stop = life.stop.clone();
        life.tasks.spawn(async move { beating.beat(kind, concurrency, busy, stop).await });
        // Cancellations are heard for as long as anything runs, which is longer than new work is taken.
        let (listening, ended) = (Arc::downgrade(&worker), life.abort.clone());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = ended.cancelled() => return,
                    message = news.next() => message,
                };
                let (Some(message), Some(worker)) = (message, listening.upgrade()) else { return };
                if let Some(id) = message.subject.rsplit('.').next() {
                    worker.cancel(id);
                }
            }
        });
        Ok(Serving::of_jobs(life, Some(Arc::clone(self))))
    }

    /// The first time, a JetStream that is still starting is waited for, and anything else is an error.
    async fn first_consumer(&self, kind: &str) -> Result<(), Status> {
        let deadline = Instant::now() + self.wait;
        let mut backoff = Backoff::quick();
        loop {
            match self.job_consumer(kind).await {
                Err(status) if status.code == Code::Unavailable && Instant::now() < deadline => {
                    tokio::time::sleep(backoff.next()).await
                }
                other => return other.map(drop),
            }
        }
    }
}
