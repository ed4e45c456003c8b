//! Who writes meanwhile, and how long each of his calls takes.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use berth_api::metadata::Metadata;
use berth_model::{Digest, Status};
use berth_wire::metadata as msg;
use msg::put_content_request::Entry;
use tokio::task::JoinSet;

use crate::store::{NS, put_image};

const WRITERS: usize = 4;

/// Times of calls, each of which waited for the disk.
#[derive(Debug, Default)]
pub(crate) struct Waits(Vec<Duration>);

impl Waits {
    pub(crate) fn told(&mut self) -> String {
        format!("{} calls, half within {:?}, longest {:?}", self.0.len(), self.of(0.5), self.of(1.0))
    }

    /// So that this part of the calls took no longer.
    pub(crate) fn of(&mut self, part: f64) -> Duration {
        self.0.sort_unstable();
        let last = self.0.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let at = (last as f64 * part) as usize;
        self.0[at]
    }
}

/// Works as pulls do, until it is told to stop: lease, record, image, lease ended; and one image deleted.
async fn write(metadata: Arc<dyn Metadata>, writer: usize, stopped: Arc<AtomicBool>) -> Waits {
    let mut waits = Waits::default();
    for round in 0.. {
        if stopped.load(Ordering::Acquire) {
            break;
        }
        let blob = Digest::of(format!("{writer} {round}").as_bytes());
        let id = format!("lease-{writer}-{round}");
        let lease = msg::CreateLeaseRequest { namespace: NS.into(), id: id.clone(), ..Default::default() };
        timed(&mut waits, metadata.create_lease(lease)).await;
        let resources = vec![msg::Resource { r#type: "content".into(), id: blob.to_string() }];
        let add = msg::AddLeaseResourcesRequest { namespace: NS.into(), id: id.clone(), resources };
        timed(&mut waits, metadata.add_lease_resources(add)).await;
        let entries = vec![Entry { digest: blob.to_string(), size: 1, ..Entry::default() }];
        let put = msg::PutContentRequest { namespace: NS.into(), entries, lease: id.clone() };
        timed(&mut waits, metadata.put_content(put)).await;
        let name = format!("written-{writer}");
        timed(&mut waits, put_image(Arc::clone(&metadata), name, blob)).await;
        timed(&mut waits, metadata.delete_lease(msg::DeleteLeaseRequest { namespace: NS.into(), id })).await;
    }
    waits
}

async fn timed<T>(waits: &mut Waits, call: impl Future<Output = Result<T, Status>>) {
    let begun = Instant::now();
    call.await.unwrap();
    waits.0.push(begun.elapsed());
}

/// Lets writers write while something is done.
pub(crate) async fn among_writers<R>(metadata: &Arc<dyn Metadata>, what: impl Future<Output = R>) -> (R, Waits) {
    let stopped = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(Arc::clone(metadata), writer, Arc::clone(&stopped)));
    }
    let done = what.await;
    stopped.store(true, Ordering::Release);
    let waits = writers.join_all().await.into_iter().flat_map(|waits| waits.0).collect();
    (done, Waits(waits))
}

/// A line of `/proc/self/status`, in MiB.
pub(crate) fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    kib.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() / 1024
}
