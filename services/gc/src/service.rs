//! The contract, and the scheduler that begins runs as any other caller does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::{
    content::ContentClient, gc::Gc, metadata::MetadataClient, pull_records::PullRecordsClient, unpacker::UnpackerClient,
};
use berth_bus::Bus;
use berth_model::{Code, Status};
use berth_telemetry::context;
use berth_wire::{
    gc::{self as msg, start_run_request::Kind},
    metadata::{Activity, WatchActivityRequest},
};
use tokio::task::JoinHandle;

use crate::{
    Config, Knobs,
    check::check,
    collect::{Backend, collect},
    disk, numbers,
    report::Report,
    runs::Runs,
    schedule::Schedule,
    why,
};

/// A long poll never waits longer.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What takes the disk is measured after a collection, but not more often: it is a walk over everything.
const MEASURE_EVERY: Duration = Duration::from_secs(10 * 60);
/// After a service did not answer.
const RETRY: Duration = Duration::from_secs(5);

/// The gc service. It collects without being asked, if the settings say so, for as long as it lives.
pub struct Service {
    collector: Arc<Collector>,
    scheduler: Option<JoinHandle<()>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(scheduler) = &self.scheduler {
            scheduler.abort();
        }
    }
}

impl Service {
    /// A service that works through this bus.
    #[must_use]
    pub fn new(bus: &Bus, config: Config) -> Self {
        let knobs = config.schedule;
        let collector = Arc::new(Collector::new(bus, config));
        let scheduler = knobs.map(|knobs| {
            let collector = Arc::clone(&collector);
            tokio::spawn(async move { keep_collected(&collector, knobs).await })
        });
        Self { collector, scheduler }
    }
}

/// Begins runs.
struct Collector {
    backend: Backend,
    config: Config,
    runs: Arc<Runs>,
}

impl Collector {
    fn new(bus: &Bus, config: Config) -> Self {
        let backend = Backend {
            content: Arc::new(ContentClient::new(bus.clone())),
            metadata: Arc::new(MetadataClient::new(bus.clone())),
            unpacker: Arc::new(UnpackerClient::new(bus.clone())),
            pulls: Arc::new(PullRecordsClient::new(bus.clone())),
            bus: bus.clone(),
        };
        Self { backend, config, runs: Arc::default() }
    }

    fn start(&self, kind: Kind, causes: &[String]) -> Result<(String, Arc<Report>), Status> {
        let (backend, config) = (self.backend.clone(), self.config.clone());
        self.runs.start(kind, causes, |report| async move {
            match kind {
                Kind::Collect(wanted) => {
                    let done =
                        collect(&backend, &report, wanted.dry_run, &config.snapshotters, config.ingest_age).await;
                    if !wanted.dry_run {
                        numbers::collected(&report.summary(), done.is_ok());
                    }
                    done
                }
                Kind::Check(wanted) => {
                    let done = check(&backend, &report, wanted, &config.snapshotters).await;
                    numbers::checked(&report.summary(), done.is_ok());
                    done
                }
            }
        })
    }
}

impl Collector {
    /// For the numbers.
    async fn measure(&self) {
        let none = msg::Summary::default();
        if let Err(status) = disk::measure(&self.backend, &self.config.snapshotters, none).await {
            tracing::debug!(%status, "what takes the disk was not measured");
        }
    }
}

async fn keep_collected(service: &Collector, knobs: Knobs) {
    let (mut schedule, started) = (Schedule::new(knobs), Instant::now());
    let mut seen = Activity::default();
    let mut measured: Option<Instant> = None;
    numbers::observe();
    loop {
        let now = Instant::now();
        let due = schedule.due(started, now);
        if due.is_some_and(|due| due <= now) {
            let begun = Instant::now();
            let causes: Vec<String> = seen.causes.drain(..).map(|cause| cause.traceparent).collect();
            let done = match service.start(Kind::Collect(msg::Collect::default()), &causes) {
                Ok((_, report)) => report.ended().await,
                Err(status) => Err(status),
            };
            if let Err(status) = done {
                tracing::warn!(%status, "a scheduled collection failed; trying again");
                tokio::time::sleep(RETRY).await;
            }
            schedule.collected(Instant::now(), begun.elapsed());
            if measured.is_none_or(|then| then.elapsed() >= MEASURE_EVERY) {
                measured = Some(Instant::now());
                service.measure().await;
            }
            continue;
        }
        let wait = due.map_or(MAX_WAIT, |due| due - now).min(MAX_WAIT);
        let request = WatchActivityRequest {
            mutations: schedule.mutations_left().map_or(u64::MAX, |left| seen.mutations.saturating_add(left.max(1))),
            deletions: seen.deletions,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1),
        };
        match service.backend.metadata.watch_activity(request).await {
            // Fewer than before: the service was started anew, and counts from zero.
            Ok(activity) if activity.mutations < seen.mutations || activity.deletions < seen.deletions => {
                schedule.note(activity.mutations, activity.deletions);
                seen = activity;
            }
            Ok(mut activity) => {
                schedule.note(activity.mutations - seen.mutations, activity.deletions - seen.deletions);
                // Those since the last look, behind those that wait for a collection already.
                activity.causes.retain(|cause| cause.deletion > seen.deletions);
                activity.causes.splice(0..0, seen.causes.drain(..));
                activity.causes.truncate(context::MOST_LINKS);
                seen = activity;
            }
            Err(status) => {
                if status.code != Code::Unavailable {
                    tracing::debug!(%status, "how much changed is not known");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl Gc for Service {
    async fn start_run(&self, request: msg::StartRunRequest) -> Result<msg::StartRunReply, Status> {
        let kind = request.kind.ok_or_else(|| Status::invalid_argument("which kind of run was not said"))?;
        let (run_id, _) = self.collector.start(kind, &[])?;
        Ok(msg::StartRunReply { run_id })
    }

    async fn read_run(&self, request: msg::ReadRunRequest) -> Result<msg::ReadRunReply, Status> {
        let report = self.collector.runs.find(&request.run_id)?;
        let after = usize::try_from(request.after).unwrap_or(usize::MAX);
        let wait = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
        Ok(report.read(after, wait).await)
    }

    async fn why(&self, request: msg::WhyRequest) -> Result<msg::WhyReply, Status> {
        why::why(&self.collector.backend, request).await
    }

    async fn measure_disk(&self, _: msg::MeasureDiskRequest) -> Result<msg::MeasureDiskReply, Status> {
        let (_, report) = self.collector.start(Kind::Collect(msg::Collect { dry_run: true }), &[])?;
        let reclaimable = report.ended().await?;
        disk::measure(&self.collector.backend, &self.collector.config.snapshotters, reclaimable).await
    }
}
