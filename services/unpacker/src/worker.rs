//! Does `unpack` jobs: a layer into a snapshot of its own, while its blob arrives.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use berth_api::content::{BlobReader, Followed};
use berth_bus::{Bus, JobContext, Serving};
use berth_failpoint::{Point, pass};
use berth_model::{Code, Descriptor, Digest, Status};
use berth_telemetry::{account::micros, effort::Effort, metrics::counter, wait};
use berth_wire::{
    Job as _, convert,
    job::SMALL_LAYER,
    types::BlobPlace,
    unpacker::{UnpackJob, UnpackOutcome, UnpackProgress},
};

use opentelemetry::metrics::Counter;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use crate::{
    ApplyError, Service, apply,
    claim::{Claim, claim, give_back},
    index::Index,
    layout,
    lock::Lock,
    pieces::Pieces,
    pipeline::{self, Spent, Streamed},
    shares::Share,
    small,
    unpacked::Unpacked,
    writers::Writers,
};

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// So many times a layer is begun anew because its download was.
const MAX_RESTARTS: usize = 5;
/// How long an unpacking waits for another one of the same layer.
const PATIENCE: Duration = Duration::from_secs(300);
/// So many times as many small layers are unpacked at once as others: they take next to no memory and no other threads, and
/// mostly wait for the disk to have their records, which they best do together.
const SMALL_AT_ONCE: usize = 4;

static UNPACKED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.unpack", "By", "Bytes of layers that were unpacked, as they are uncompressed"));

/// Works on unpack jobs, so many at once; in one process, of small layers more.
pub(crate) async fn work(bus: &Bus, service: Arc<Service>, jobs: usize) -> Result<Serving, Status> {
    let others = Arc::new(Semaphore::new(jobs));
    // Where there may be other unpackers, the bus sees to it that none takes more than it can begin at once.
    let most = if bus.is_remote() { jobs } else { jobs.saturating_mul(SMALL_AT_ONCE) };
    bus.work(most, move |job: UnpackJob, context| {
        let service = Arc::clone(&service);
        let (digest, chain_id) = (job.layer.as_ref().map(|layer| layer.digest.clone()), job.chain_id.clone());
        let span = tracing::info_span!("unpack", digest, chain_id);
        let others = Arc::clone(&others);
        async move {
            let small = job.is_small();
            let _place = match small {
                true => None,
                false => tokio::select! {
                    place = wait::on("other layers", others.acquire()) => place.ok(),
                    () = context.cancelled() => {
                        give_back(&service, &job, context.is_first()).await;
                        return Err(Status::cancelled("the unpacking was cancelled while it waited for those of other layers"));
                    }
                },
            };
            unpack(&service, job, context).await
        }
        .instrument(span)
    })
    .await
}

async fn unpack(service: &Service, job: UnpackJob, context: JobContext<UnpackJob>) -> Result<UnpackOutcome, Status> {
    let layer = Descriptor::try_from(convert::required(job.layer.as_ref(), "layer")?)?;
    let diff_id = convert::digest(&job.diff_id)?;
    convert::digest(&job.chain_id)?;
    let snapshotter = service.snapshotter(&job.snapshotter)?;
    let key = job.snapshot_key();
    // A job may be handed out again while its first worker is still at it.
    let (locks, name) = (snapshotter.layout().locks(), format!("{}-{}", job.namespace, job.chain_id));
    let _lock = tokio::select! {
        lock = wait::on("another unpacking", Lock::on_name(&locks, &name, PATIENCE)) => lock?,
        () = context.cancelled() => {
            give_back(service, &job, context.is_first()).await;
            return Err(Status::cancelled("the unpacking was cancelled while it waited for another of the same layer"));
        }
    };
    let id = match claim(service, &job, &snapshotter, &diff_id, context.is_first()).await? {
        Claim::Fill(id) => id,
        Claim::Done(outcome) => return Ok(outcome),
    };
    let (refusals, dir) = (service.refusals(), snapshotter.layout().dir(id));
    let heard = refusals.heard();
    let extracted = extract(service, &layer, job.place.as_ref(), diff_id, &dir, &context).await;
    let extracted = extracted.and_then(|done| refusals.none_since(heard).map(|()| done));
    if let Ok((streamed, _)) = &extracted {
        UNPACKED.add(streamed.size, &[]);
    }
    match extracted {
        Ok((streamed, spent)) => {
            Ok(UnpackOutcome { key, id, uncompressed_size: streamed.size, existed: false, spent_us: account(&spent) })
        }
        Err(status) => Err(after_failure(service, &job, &key, id, status).await),
    }
}

/// Removes what a failed try made; answers the error to tell. If another try has taken this one's place, the failure is
/// that one's doing, and its outcome is the one that counts.
async fn after_failure(service: &Service, job: &UnpackJob, key: &str, id: u64, status: Status) -> Status {
    match service.stat(&job.namespace, &job.snapshotter, key).await {
        Ok(Some(found)) if found.snapshot.as_ref().is_some_and(|snapshot| snapshot.id == id) => {}
        Ok(Some(_)) => return Status::unavailable(format!("another worker has taken over; here: {status}")),
        Ok(None) | Err(_) => return status,
    }
    if let Err(left) = service.drop_snapshot(&job.namespace, &job.snapshotter, key, id).await {
        tracing::debug!(status = %left, "a failed unpacking stays for the collection");
    }
    status
}

/// Unpacks the blob into the snapshot's directory; anew when its download begins anew.
async fn extract(
    service: &Service,
    layer: &Descriptor,
    place: Option<&BlobPlace>,
    diff_id: Digest,
    dir: &Path,
    context: &JobContext<UnpackJob>,
) -> Result<(Streamed, Spent), Status> {
    for restarts in 0..MAX_RESTARTS {
        let done = Arc::new(AtomicU64::new(0));
        let token = context.cancellation();
        let cancelled = {
            let token = token.clone();
            move || token.is_cancelled()
        };
        let reader =
            BlobReader::new(service.content(), tokio::runtime::Handle::current(), layer.digest, cancelled.clone());
        let place = place.cloned();
        let (counted, dir, blob) = (Arc::clone(&done), dir.to_owned(), layer.clone());
        let (writers, share) = (service.writers(), service.shares().begin(layer.size));
        let memory = Arc::clone(service.memory());
        let work = berth_api::blocking(move || {
            if restarts > 0 {
                make_anew(&dir)?;
            }
            let reader = reader.at(place.as_ref(), blob.size);
            let done = apply_blob(reader, &counted, Some(&share), &dir, &blob, &writers, &cancelled)?;
            Ok(done.map(|applied| {
                if let Some(names) = applied.names {
                    memory.put_unsettled(&dir.join("fs"), names);
                }
                (applied.streamed, applied.spent)
            }))
        });
        tokio::pin!(work);
        // Whoever is done sooner says no more than that.
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + REPORT_EVERY, REPORT_EVERY);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome?,
                _ = ticks.tick() => context.progress(UnpackProgress { offset: done.load(Ordering::Relaxed), total: layer.size }),
            }
        };
        match outcome {
            None => tracing::debug!(digest = %layer.digest, "the download began anew, and so does the unpacking"),
            Some((streamed, spent)) if streamed.diff_id == diff_id => {
                // Another unpacker may commit it.
                service.forget_later();
                return Ok((streamed, spent));
            }
            Some((streamed, _)) => {
                return Err(Status::failed_precondition(format!(
                    "layer {}: its uncompressed bytes have diff id {}, the image's config promises {diff_id}; \
                     the image is broken at its source",
                    layer.digest, streamed.diff_id
                )));
            }
        }
    }
    Err(Status::unavailable(format!("the download of layer {} began anew {MAX_RESTARTS} times", layer.digest)))
}

/// A layer that was unpacked.
pub(crate) struct Applied {
    pub(crate) streamed: Streamed,
    pub(crate) spent: Spent,
    /// The names in its tree, if they are few and known.
    names: Option<Index>,
}

/// One try, on a blocking thread, in a directory with an empty tree. `None`: what was read is void.
pub(crate) fn apply_blob(
    mut reader: BlobReader,
    done: &AtomicU64,
    share: Option<&Arc<Share>>,
    dir: &Path,
    layer: &Descriptor,
    writers: &Writers,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<Applied>, Status> {
    let upper = dir.join("fs");
    let counted = Counting { reader: &mut reader, done, share };
    let begun = SystemTime::now();
    let untar = |archive: &mut dyn Pieces| apply::apply_named(archive, &upper, writers, cancelled);
    let outcome =
        if layer.size <= SMALL_LAYER { small::timed(counted, untar) } else { pipeline::timed(counted, share, untar) };
    match outcome {
        Ok(((residue, names), streamed, spent)) => {
            tell(begun, &spent);
            pass(Point::UnpackApplied);
            Unpacked::keep(residue, &streamed, dir)?;
            pass(Point::UnpackKept);
            Ok(Some(Applied { streamed, spent, names }))
        }
        Err(_) if reader.end() == Some(&Followed::Void) => Ok(None),
        Err(ApplyError::Source(status)) => Err(status),
        Err(error) => match reader.end() {
            Some(Followed::Failed(status)) if status.code != Code::Cancelled => Err(status.clone()),
            _ => Err(error.status(&layer.digest.to_string(), &upper)),
        },
    }
}

fn stages(spent: &Spent) -> [(&'static str, Effort); 4] {
    let read = Effort { busy: spent.source, ..Effort::default() };
    [("read", read), ("inflate", spent.inflate), ("hash", spent.hash), ("untar", spent.untar)]
}

/// As the outcome tells it: what a stage lacked is behind its name.
fn account(spent: &Spent) -> BTreeMap<String, u64> {
    let told = stages(spent).into_iter().flat_map(|(stage, effort)| {
        [
            (stage.to_owned(), effort.busy),
            (format!("{stage}: processor"), effort.starved),
            (format!("{stage}: disk"), if stage == "untar" { effort.held_up } else { Duration::ZERO }),
        ]
    });
    told.filter(|(_, time)| !time.is_zero()).map(|(what, time)| (what, micros(time))).collect()
}

/// The stages overlap, each on a thread of its own.
fn tell(begun: SystemTime, spent: &Spent) {
    let (span, between) = (tracing::Span::current(), (begun, SystemTime::now()));
    for (stage, effort) in stages(spent) {
        wait::worked(&span, stage, between, effort);
    }
}

/// Makes the tree of a snapshot anew, as it was before a try that came to nothing: also what that gave to its root.
fn make_anew(dir: &Path) -> Result<(), Status> {
    Unpacked::drop_kept(dir);
    let upper = dir.join("fs");
    layout::erase(&upper)?;
    layout::make_dir(&upper, 0o755)
}

struct Counting<'a> {
    reader: &'a mut BlobReader,
    done: &'a AtomicU64,
    share: Option<&'a Arc<Share>>,
}

impl std::io::Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.done.store(self.reader.offset(), Ordering::Relaxed);
        if let Some(share) = self.share {
            share.read(self.reader.offset());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn nothing_is_left_of_a_try_that_came_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path().join("fs");
        fs::create_dir_all(upper.join("a/b")).unwrap();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o700)).unwrap();
        rustix::fs::setxattr(&upper, "user.of", b"void bytes", rustix::fs::XattrFlags::empty()).unwrap();
        make_anew(dir.path()).unwrap();
        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
        assert_eq!(fs::metadata(&upper).unwrap().permissions().mode() & 0o7777, 0o755);
        let mut list = [0_u8; 64];
        assert_eq!(rustix::fs::listxattr(&upper, list.as_mut_slice()).unwrap(), 0);
    }
}
