//! The worker's side of jobs: lanes that each fetch one job, run it to its verdict, and fetch the next.
//!
//! A lane asks the stream for one job at a time, so a worker never holds more than it runs. It begins anew whenever the
//! connection broke or the stream or the consumer vanished.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{Consumer, pull};
use berth_model::{Code, Status};
use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Nats;
use crate::backoff::Backoff;
use crate::job::JobHandler;
use crate::serving::{Life, Serving};

/// How long one request for a job stays with the server.
const ASK: Duration = Duration::from_secs(15);
/// Cancellations remembered for jobs that are still on their way to this worker.
const REMEMBERED: usize = 1024;

/// What the lanes of one worker share.
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

    /// The token of a job that begins; cancelled already if that news came first.
    pub(super) fn begin(&self, id: &str) -> CancellationToken {
        let token = CancellationToken::new();
        let mut cancels = self.cancels();
        if cancels.early.iter().any(|early| early == id) {
            token.cancel();
        }
        cancels.running.insert(id.to_owned(), token.clone());
        token
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

    async fn lane(&self) {
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
            self.take_from(&consumer).await;
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

    /// Takes and runs jobs until something is wrong with the consumer or the worker is to stop.
    async fn take_from(&self, consumer: &Consumer<pull::Config>) {
        let mut breaks = self.nats.link.breaks();
        loop {
            let taken = tokio::select! {
                biased;
                () = self.life.stop.cancelled() => return,
                _broken = breaks.changed() => return,
                taken = ask(consumer) => taken,
            };
            match taken {
                Ok(Some(message)) => self.deliver(message).await,
                Ok(None) => {}
                Err(error) => {
                    return tracing::debug!(
                        kind = self.kind,
                        error,
                        "cannot take jobs from the consumer; looking it up again"
                    );
                }
            }
        }
    }
}

/// Asks for one job; nothing if none came in time.
async fn ask(consumer: &Consumer<pull::Config>) -> Result<Option<jetstream::Message>, String> {
    let mut batch =
        consumer.batch().max_messages(1).expires(ASK).messages().await.map_err(|error| error.to_string())?;
    batch.next().await.transpose().map_err(|error| error.to_string())
}

impl Nats {
    pub(crate) async fn work(
        self: &Arc<Self>,
        kind: &'static str,
        concurrency: usize,
        handler: JobHandler,
    ) -> Result<Serving, Status> {
        self.first_consumer(kind).await?;
        let mut news = self.link.client.subscribe(self.names.job_cancel("*")).await.map_err(|error| {
            Status::unavailable(format!("could not listen for cancellations at {}: {error}", self.link.url))
        })?;
        self.flush().await;
        let life = Life::default();
        let worker =
            Arc::new(Worker { nats: Arc::clone(self), kind, handler, life: life.clone(), cancels: Mutex::default() });
        for _ in 0..concurrency {
            let worker = Arc::clone(&worker);
            life.tasks.spawn(async move { worker.lane().await });
        }
        let beating = Arc::clone(self);
        let stop = life.stop.clone();
        life.tasks.spawn(async move { beating.beat(kind, stop).await });
        // Cancellations are heard for as long as anything runs, which is longer than new work is taken.
        let (lanes, ended) = (Arc::downgrade(&worker), life.abort.clone());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = ended.cancelled() => return,
                    message = news.next() => message,
                };
                let (Some(message), Some(worker)) = (message, lanes.upgrade()) else { return };
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
