//! One delivery of a job to a worker: runs it, keeps it alive, reports progress, and settles it with the stream.
//!
//! The verdict is told before the job is acknowledged: if the worker dies in between, another finds the work done. The
//! other order could lose the verdict, and the submitter would have to notice by the silence.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use berth_model::Status;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::liveness::HEARTBEAT;
use super::signal::Signal;
use super::worker::Worker;
use super::{from_nats, header};
use crate::attempt::{Work, attempt};
use crate::dead::is_dead;
use crate::frame;
use crate::job::Run;
use crate::verdict::{MAX_DELIVERIES, Verdict, judge, worn_out};

/// The least time between two progress messages of a job.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

impl Worker {
    /// Takes one delivered job to its verdict.
    pub(super) async fn deliver(&self, message: jetstream::Message) {
        let deliveries = message.info().map_or(1, |info| u32::try_from(info.delivered).unwrap_or(u32::MAX));
        let Some(id) = header(message.headers.as_ref(), frame::JOB_ID) else {
            tracing::warn!(kind = self.kind, subject = %message.subject, "a message in the job stream is no job of berth's; dropping it");
            return settle(&message, AckKind::Term).await;
        };
        if deliveries > MAX_DELIVERIES {
            let status = worn_out(self.kind);
            self.signal(&id, Signal::Verdict(Err(status.clone()))).await;
            self.nats.bury(self.kind, &id, &message, deliveries, &status).await;
            return settle(&message, AckKind::Term).await;
        }
        tracing::debug!(kind = self.kind, id, deliveries, "took a job");
        let Some(cancel) = self.begin(&id) else {
            return tracing::debug!(kind = self.kind, id, "the job runs here already");
        };
        self.run(message, &id, deliveries, cancel).await;
        self.end(&id);
    }

    async fn run(&self, message: jetstream::Message, id: &str, deliveries: u32, cancel: CancellationToken) {
        let work = Work {
            kind: self.kind,
            id: id.to_owned(),
            body: message.payload.clone(),
            headers: from_nats(message.headers.as_ref()),
            max_payload: self.nats.max_payload(),
        };
        let (progress, mut reported) = watch::channel(None);
        let run = Run::new(Arc::new(progress), cancel.clone(), deliveries, &work.headers);
        let hopeless = Arc::clone(&run.hopeless);
        let result = tokio::select! {
            biased;
            () = self.life.abort.cancelled() => {
                // Another worker takes it from here.
                return settle(&message, AckKind::Nak(None)).await;
            }
            result = attempt(&self.handler, work, run) => result,
            never = self.keep_alive(&message, id, &mut reported) => match never {},
        };
        // The last report was perhaps not due yet.
        if let Some(last) = unseen(&mut reported) {
            self.signal(id, Signal::Progress(last)).await;
        }
        match judge(result, deliveries, cancel.is_cancelled() || hopeless.load(Ordering::Relaxed)) {
            Verdict::Done(outcome) => {
                self.signal(id, Signal::Verdict(Ok(outcome))).await;
                settle(&message, AckKind::Ack).await;
            }
            Verdict::Reject(status) => {
                self.signal(id, Signal::Verdict(Err(status.clone()))).await;
                if !cancel.is_cancelled() && is_dead(&status) {
                    self.nats.bury(self.kind, id, &message, deliveries, &status).await;
                }
                settle(&message, AckKind::Term).await;
            }
            Verdict::Retry(pause, why) => {
                tracing::debug!(kind = self.kind, id, %why, ?pause, "job is tried again after a pause");
                self.signal(id, Signal::Alive).await;
                settle(&message, AckKind::Nak(Some(pause))).await;
            }
        }
    }

    /// Tells the stream and the submitter that the job runs, and the latter how far it is, until dropped.
    async fn keep_alive(
        &self,
        message: &jetstream::Message,
        id: &str,
        reported: &mut watch::Receiver<Option<Bytes>>,
    ) -> std::convert::Infallible {
        // Whoever is done sooner says no more than the verdict.
        let mut ticks = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_report = Instant::now();
        let mut reports = true;
        loop {
            tokio::select! {
                _tick = ticks.tick() => {
                    settle(message, AckKind::Progress).await;
                    self.signal(id, Signal::Alive).await;
                }
                due = due(reported, next_report), if reports => match due {
                    Some(progress) => {
                        self.signal(id, Signal::Progress(progress)).await;
                        next_report = Instant::now() + PROGRESS_EVERY;
                    }
                    None => reports = false,
                },
            }
        }
    }

    async fn signal(&self, id: &str, signal: Signal) {
        let (headers, body) = signal.into_parts();
        self.nats.link.tell(self.nats.names.job_reply(self.kind, id), headers, body).await;
    }
}

/// The latest report once there is a new one and its time has come; nothing when no more will come.
async fn due(reported: &mut watch::Receiver<Option<Bytes>>, not_before: Instant) -> Option<Bytes> {
    loop {
        // Looks without taking, so that a report is not lost when this future is dropped during the wait.
        let waiting = reported.has_changed().ok()?;
        if !waiting {
            reported.changed().await.ok()?;
            reported.mark_changed();
        }
        tokio::time::sleep_until(not_before).await;
        if let Some(latest) = unseen(reported) {
            return Some(latest);
        }
    }
}

fn unseen(reported: &mut watch::Receiver<Option<Bytes>>) -> Option<Bytes> {
    // Also after its sender has gone, the receiver knows whether it saw the last value.
    let latest = reported.borrow_and_update();
    if latest.has_changed() { latest.clone() } else { None }
}

/// Tells the stream what became of the delivery. If that gets lost, the stream hands the job out again.
async fn settle(message: &jetstream::Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        let error: Status = Status::unavailable(error.to_string());
        tracing::debug!(subject = %message.subject, %error, "the stream was not told; it will hand the job out again");
    }
}
