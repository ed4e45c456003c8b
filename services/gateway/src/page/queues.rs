//! Queues and workers: for the page when it asks, and as numbers all the time.

use std::time::Duration;

use axum::{Json, extract::State};
use berth_bus::{Bus, Job as _, QueueState};
use berth_model::Status;
use berth_telemetry::{
    lag,
    metrics::{label, meter},
};
use berth_wire::{fetcher::FetchJob, metadata::ReadEventsRequest, unpacker::UnpackJob};
use opentelemetry::metrics::Gauge;
use serde_json::{Value, json};

use super::api::Failed;
use crate::{Backend, readers};

/// How often the numbers are looked at.
const EVERY: Duration = Duration::from_secs(10);

async fn states(bus: &Bus) -> Result<Vec<QueueState>, Status> {
    bus.queues(&[FetchJob::KIND, UnpackJob::KIND]).await
}

pub(super) async fn queues(State(backend): State<Backend>) -> Result<Json<Value>, Failed> {
    let queues: Vec<Value> = states(&backend.bus)
        .await?
        .into_iter()
        .map(|queue| {
            let workers = queue.workers.into_iter();
            let workers: Vec<Value> = workers
                .map(|worker| json!({ "name": worker.name, "busy": worker.busy, "places": worker.places }))
                .collect();
            json!({ "kind": queue.kind, "waiting": queue.waiting, "oldestMs": queue.oldest.map(|age| age.as_millis() as u64), "running": queue.running, "workers": workers })
        })
        .collect();
    Ok(Json(json!({ "queues": queues })))
}

/// Keeps the numbers until told to stop.
pub(super) async fn count(bus: Bus, backend: Backend) {
    let stop = backend.stopping.clone();
    let gauge = |name: &'static str, unit: &'static str, what: &'static str| -> Gauge<u64> {
        meter().u64_gauge(name).with_unit(unit).with_description(what).build()
    };
    let waiting = gauge("berth.queue.waiting", "{job}", "Jobs that no worker has taken");
    let oldest = meter()
        .f64_gauge("berth.queue.oldest")
        .with_unit("s")
        .with_description("For how long the first job that no worker has taken has waited")
        .build();
    let running = gauge("berth.queue.running", "{job}", "Jobs that a worker has");
    let workers = gauge("berth.queue.workers", "{worker}", "Processes that work on jobs of a kind");
    let places = gauge("berth.queue.places", "{job}", "Jobs of a kind that all workers can run at once");
    let dead = gauge("berth.queue.dead", "{job}", "Jobs that were given up, and wait for a person");
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        match states(&bus).await {
            Ok(queues) => {
                for queue in queues {
                    let kind = [label("kind", queue.kind)];
                    waiting.record(queue.waiting, &kind);
                    oldest.record(queue.oldest.unwrap_or_default().as_secs_f64(), &kind);
                    running.record(queue.running, &kind);
                    workers.record(queue.workers.len() as u64, &kind);
                    places.record(queue.workers.iter().map(|worker| u64::from(worker.places)).sum(), &kind);
                }
            }
            Err(status) => tracing::debug!(%status, "the queues could not be looked at"),
        }
        let newest = ReadEventsRequest { after: u64::MAX, limit: 1, wait_ms: 0 };
        if let Ok(newest) = backend.metadata.read_events(newest).await {
            lag::readers("grpc", readers::lags(newest.last));
        }
        if let Ok(letters) = bus.dead_letters().await {
            dead.record(letters.len() as u64, &[]);
        }
    }
}
