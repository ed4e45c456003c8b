//! How queues stand, over NATS: the server counts the jobs, and workers say who they are with each sign of life.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::stream::Stream;
use berth_model::Status;
use futures::StreamExt;
use tokio::time::Instant;

use super::Nats;
use super::liveness::HEARTBEAT;
use super::streams::Kind;
use crate::queue::{QueueState, WorkerState};
use crate::subject::Names;

/// Who was not heard for so long has gone.
const GONE: Duration = Duration::from_secs(7);
/// Workers of one kind that are remembered; more are not told.
const MOST: usize = 1000;

/// Who was heard, and when.
type Heard = Mutex<BTreeMap<String, (WorkerState, Instant)>>;

/// The workers of each kind; listens from the first question on.
#[derive(Debug, Default)]
pub(super) struct Census {
    kinds: Mutex<HashMap<&'static str, Arc<Heard>>>,
}

impl Nats {
    pub(crate) async fn queues(&self, kinds: &[&'static str]) -> Result<Vec<QueueState>, Status> {
        let mut fresh = false;
        let mut heard = Vec::new();
        for kind in kinds {
            let (workers, is_new) = self.census_of(kind).await?;
            fresh |= is_new;
            heard.push((*kind, workers));
        }
        if fresh {
            // Whoever is there speaks within this time.
            tokio::time::sleep(HEARTBEAT + HEARTBEAT / 4).await;
        }
        let stream = self.ensure(Kind::Jobs).await?;
        let mut found = Vec::new();
        for (kind, workers) in heard {
            // Before the first worker there is no consumer, and nobody counts.
            let counted = self.link.permitted(stream.consumer_info(Names::consumer(kind))).await?.ok();
            let (waiting, running, next) = counted.map_or((0, 0, 0), |info| {
                let running = u64::try_from(info.num_ack_pending).unwrap_or(0);
                (info.num_pending, running, info.delivered.stream_sequence + 1)
            });
            let oldest = if waiting > 0 { self.age(&stream, kind, next).await? } else { None };
            let mut known = workers.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, (_, at)| at.elapsed() < GONE);
            let workers = known.values().map(|(worker, _)| worker.clone()).collect();
            found.push(QueueState { kind: kind.to_owned(), waiting, oldest, running, workers });
        }
        Ok(found)
    }

    /// How long the first job of a kind from `next` on has been in the stream; none if it was taken just now.
    async fn age(&self, stream: &Stream, kind: &str, next: u64) -> Result<Option<Duration>, Status> {
        let first = stream.get_first_raw_message_by_subject(self.names.job(kind), next);
        let Ok(first) = self.link.permitted(first).await? else { return Ok(None) };
        Ok(SystemTime::from(first.time).elapsed().ok())
    }

    /// What is heard of a kind's workers, and whether it is listened to only from now on.
    async fn census_of(&self, kind: &'static str) -> Result<(Arc<Heard>, bool), Status> {
        let known = self.census.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned();
        if let Some(known) = known {
            return Ok((known, false));
        }
        let listening = self.link.client.subscribe(self.names.job_alive(kind)).await;
        let mut beats = listening.map_err(|error| {
            Status::unavailable(format!("could not listen for workers at {}: {error}", self.link.url))
        })?;
        let heard = Arc::new(Heard::default());
        let table = Arc::downgrade(&heard);
        tokio::spawn(async move {
            while let Some(beat) = beats.next().await {
                // The bus is gone.
                let Some(table) = table.upgrade() else { return };
                let Some(worker) = WorkerState::of_line(&beat.payload) else { continue };
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                if table.len() < MOST || table.contains_key(&worker.name) {
                    table.insert(worker.name.clone(), (worker, Instant::now()));
                }
            }
        });
        let mut kinds = self.census.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((Arc::clone(kinds.entry(kind).or_insert(heard)), true))
    }
}
