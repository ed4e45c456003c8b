//! The fetch job: brings one blob into the content store, and is done at once if it is there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_api::{
    content::{BlobWriter, Content, Turns},
    transfer::Transfer,
};
use berth_bus::JobContext;
use berth_model::{Code, Descriptor, Reference, Status};
use berth_telemetry::{
    account::{self, Account, micros},
    effort::OfProcess,
};
use berth_wire::{
    convert::required,
    fetcher::{FetchJob, FetchOutcome, FetchProgress},
    job::SMALL_LAYER,
    types::BlobPlace,
};
use tracing::{Instrument as _, field::Empty};

use crate::{
    asker::Asker,
    client::RegistryClient,
    fetch::Named,
    flight::{self, Place},
    numbers::{self, Source},
    service::reference,
    sink::Blamed,
};

/// Progress is reported at most this often; people do not read faster, and each report may cross a network.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// A small layer is there sooner than anybody reads that it comes, and is not unpacked before; reports of it begin after so long.
const SOON_THERE: Duration = Duration::from_millis(500);
/// From so many bytes on it is looked whether a download waits for processors.
const WATCHED: u64 = 1 << 20;
/// In accounts: the part of a download in which work of this process waited for a processor.
const STARVED: &str = "starved";
/// Times a job finds itself replaced as the writer before it gives its place up for good.
const REPLACED: usize = 3;

pub(crate) struct Worker {
    client: Arc<RegistryClient>,
    content: Arc<dyn Content>,
    asker: Asker,
    turns: Turns,
}

/// What a job says, checked.
struct Task {
    pull_id: String,
    reference: Reference,
    descriptor: Descriptor,
    plain_http: bool,
}

impl Worker {
    pub(crate) fn new(client: Arc<RegistryClient>, content: Arc<dyn Content>, transfer: Arc<dyn Transfer>) -> Self {
        Self { client, content, asker: Asker::new(transfer), turns: Turns::default() }
    }

    /// Works on one job.
    pub(crate) async fn run(&self, job: FetchJob, context: JobContext<FetchJob>) -> Result<FetchOutcome, Status> {
        let task = Task {
            reference: reference(&job.reference)?,
            descriptor: required(job.descriptor.as_ref(), "descriptor")?.try_into()?,
            plain_http: job.plain_http,
            pull_id: job.pull_id,
        };
        let Descriptor { digest, size, .. } = &task.descriptor;
        let span = tracing::info_span!("fetch", %digest, size, registry = task.reference.registry());
        let (done, account) = account::kept(Box::pin(self.bring(&task, &context))).instrument(span).await;
        let (spent_us, retries, retried_hosts) = (spent(&account), retries(&account), retried_hosts(&account));
        Ok(FetchOutcome { spent_us, retries, retried_hosts, ..done? })
    }

    async fn bring(&self, task: &Task, context: &JobContext<FetchJob>) -> Result<FetchOutcome, Status> {
        let report = Report::new(context, task.descriptor.size);
        let large = (task.descriptor.size >= self.client.options.large_bytes).then_some(&*self.client.places);
        let mut replaced = 0;
        loop {
            let watched = |frontier| report.tell(frontier);
            let place = tokio::select! {
                place = flight::find(&self.content, &task.descriptor, large, &self.turns, &watched) => place?,
                () = context.cancelled() => return Err(cancelled(task)),
            };
            let (mut writer, _permit) = match place {
                Place::Existed => {
                    numbers::bytes(Source::Present, task.descriptor.size);
                    return Ok(FetchOutcome { existed: true, ..FetchOutcome::default() });
                }
                Place::Landed => {
                    numbers::bytes(Source::Flight, task.descriptor.size);
                    return Ok(FetchOutcome::default());
                }
                Place::Ours(writer, permit) => (writer, permit),
            };
            report.tell(writer.offset());
            let done = tokio::select! {
                done = self.download(task, &mut writer, &report) => done,
                () = context.cancelled() => Err(cancelled(task)),
            };
            match done {
                Ok((fetched, place)) => return Ok(FetchOutcome { fetched, place, ..FetchOutcome::default() }),
                Err(status) if status.code == Code::Aborted && replaced < REPLACED => {
                    replaced += 1;
                    tracing::debug!(%status, "another writer took over");
                }
                Err(status) => {
                    // What was fetched stays for a resume.
                    if let Err(error) = writer.release().await {
                        tracing::debug!(%error, "the ingest could not be released; its place ends by silence");
                    }
                    return Err(status);
                }
            }
        }
    }

    /// Fills and commits the ingest. Bytes that turn out wrong are thrown away and fetched anew, once: they may be from
    /// an earlier and broken attempt. Answers how many were asked of the registry, and where the blob is.
    async fn download(
        &self,
        task: &Task,
        writer: &mut BlobWriter,
        report: &Report<'_>,
    ) -> Result<(u64, Option<BlobPlace>), Status> {
        let descriptor = &task.descriptor;
        let mut access = self.asker.access(&task.pull_id).await?;
        access.plain_http |= task.plain_http;
        let progress = |offset| report.tell(offset);
        let mut fetched = 0;
        let (mut anew, mut asked_again) = (false, false);
        if writer.offset() > descriptor.size {
            writer.restart().await?;
        }
        loop {
            let (begun_at, begun) = (writer.offset(), Instant::now());
            let mut sink = Blamed { sink: &mut *writer, failed: false };
            let span = tracing::info_span!("download", offset = begun_at, berth.bytes = Empty);
            let named = Named { descriptor, reference: &task.reference };
            let download = Box::pin(self.client.fetch(&mut sink, &named, &access, &progress, anew));
            // Small ones take no time that anybody asks about.
            let watch = (descriptor.size >= WATCHED).then(OfProcess::begin);
            let done = account::timed("download", download.instrument(span.clone())).await;
            account::spent(STARVED, watch.map_or(Duration::ZERO, |watch| begun.elapsed().mul_f64(watch.starved())));
            match done {
                Ok(done) => {
                    span.record("berth.bytes", done.bytes);
                    numbers::bytes(Source::Registry, done.bytes);
                    fetched += done.bytes;
                }
                Err(status) => {
                    // What a registry says to somebody who may not have it is its own matter.
                    if !sink.failed
                        && !std::mem::replace(&mut asked_again, true)
                        && let Some(now) = self.asker.other_than(&task.pull_id, &access).await
                    {
                        tracing::debug!(%status, "other credentials have come; asking the registry with these");
                        access.credentials = now.credentials;
                        continue;
                    }
                    // The registry was asked again and again already.
                    if !sink.failed {
                        report.context.give_up();
                    }
                    return Err(status);
                }
            }
            match account::timed("commit", writer.commit(descriptor.size, &descriptor.digest)).await {
                Ok(place) => return Ok((fetched, place)),
                Err(status) if status.code == Code::FailedPrecondition => {
                    writer.restart().await?;
                    report.last(0);
                    if anew {
                        return Err(mismatch(task));
                    }
                    tracing::warn!(digest = %descriptor.digest, %status, "the bytes are wrong; fetching them again from the start");
                    anew = true;
                }
                Err(status) => return Err(status),
            }
        }
    }
}

fn cancelled(task: &Task) -> Status {
    Status::cancelled(format!("fetching {} was cancelled", task.descriptor.digest))
}

fn mismatch(task: &Task) -> Status {
    let (registry, repository) = (task.reference.registry(), task.reference.repository());
    Status::failed_precondition(format!(
        "bytes from {registry} do not match digest {} of {registry}/{repository}, twice; it is damaged at its source, or something in between changes it",
        task.descriptor.digest
    ))
}

/// Tells the job's submitter how far it is, not too often.
struct Report<'a> {
    context: &'a JobContext<FetchJob>,
    total: u64,
    /// None before this.
    not_before: Mutex<Option<Instant>>,
}

impl<'a> Report<'a> {
    fn new(context: &'a JobContext<FetchJob>, total: u64) -> Self {
        let first = (total <= SMALL_LAYER).then(|| Instant::now() + SOON_THERE);
        Self { context, total, not_before: Mutex::new(first) }
    }

    fn tell(&self, offset: u64) {
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // The first byte of others is news at once: unpacking begins with it.
        if offset == 0 || not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        *not_before = Some(now + REPORT_EVERY);
        drop(not_before);
        self.last(offset);
    }

    fn last(&self, offset: u64) {
        self.context.progress(FetchProgress { offset, total: self.total });
    }
}

/// Waits that are part of a download, beside the bytes themselves.
const WITHIN: [&str; 5] = ["answer", "rate limit", "retry", "disk", "unpack"];

/// What an account says, with the time in which bytes came. What of it was rather a wait for a processor is no fault of the
/// registry or of the disk.
fn spent(account: &Account) -> BTreeMap<String, u64> {
    let of = |what: &str| account.spent.get(what).copied().unwrap_or_default();
    let download = of("download");
    let transfer = WITHIN.iter().fold(download, |left, what| left.saturating_sub(of(what)));
    let share = if download.is_zero() { 0.0 } else { (of(STARVED).as_secs_f64() / download.as_secs_f64()).min(1.0) };
    let mut all: BTreeMap<String, u64> = account.micros().collect();
    for gone in ["download", STARVED] {
        all.remove(gone);
    }
    all.insert("processor".to_owned(), micros((transfer + of("disk")).mul_f64(share)));
    for (what, time) in [("transfer", transfer), ("disk", of("disk"))] {
        all.insert(what.to_owned(), micros(time.mul_f64(1.0 - share)));
    }
    all.retain(|_, spent| *spent > 0);
    all
}

fn retries(account: &Account) -> BTreeMap<String, u64> {
    sums(account, |cause, _| cause)
}

fn retried_hosts(account: &Account) -> BTreeMap<String, u64> {
    sums(account, |_, host| host)
}

fn sums<'a>(account: &'a Account, by: impl Fn(&'a str, &'a str) -> &'a str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for ((cause, host), times) in &account.counted {
        *sums.entry(by(cause, host).to_owned()).or_default() += times;
    }
    sums
}
