//! Whether any worker of a kind is alive: workers say so every two seconds, submitters listen.
//!
//! This tells "no worker exists" from "all workers are busy". One subscription per kind and bus, however many jobs wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Nats;
use crate::queue::{self, WorkerState};

/// How often workers, and whoever runs a job, show that they are alive.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);

/// When a worker of each kind was last heard.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    heard: Mutex<HashMap<&'static str, watch::Receiver<Option<Instant>>>>,
}

impl Nats {
    /// When a worker of `kind` was last heard; listens from the first question on.
    pub(super) async fn workers_heard(&self, kind: &'static str) -> watch::Receiver<Option<Instant>> {
        let known = |nats: &Self| nats.liveness.heard.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned();
        if let Some(heard) = known(self).filter(|heard| heard.has_changed().is_ok()) {
            return heard;
        }
        let (sender, receiver) = watch::channel(None);
        match self.link.client.subscribe(self.names.job_alive(kind)).await {
            Ok(mut beats) => {
                tokio::spawn(async move {
                    loop {
                        tokio::select! {
                            // The bus is gone.
                            () = sender.closed() => return,
                            beat = beats.next() => match beat {
                                Some(_alive) => drop(sender.send_replace(Some(Instant::now()))),
                                None => return,
                            },
                        }
                    }
                });
            }
            Err(error) => tracing::debug!(kind, %error, "cannot listen for workers"),
        }
        self.liveness.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, receiver.clone());
        receiver
    }

    /// Says every [`HEARTBEAT`] that a worker of `kind` is alive and how busy it is, from now until `stop`.
    pub(super) async fn beat(
        &self,
        kind: &'static str,
        places: usize,
        busy: impl Fn() -> usize,
        stop: CancellationToken,
    ) {
        let name = queue::own_name();
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _tick = ticks.tick() => {
                    let said = WorkerState { name: name.clone(), busy: count(busy()), places: count(places) }.to_line();
                    self.link.tell(self.names.job_alive(kind), HeaderMap::new(), said.into()).await;
                }
            }
        }
    }
}

fn count(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}
