//! One flight per digest: a fetch job either becomes the writer of the blob's ingest, or watches whoever is, and takes
//! over when that one dies.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::content::{BlobWriter, Content, Turns};
use berth_model::{Code, Descriptor, Status};
use berth_telemetry::wait;
use berth_wire::content::{WatchBlobReply, WatchBlobRequest, watch_blob_reply::State};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long one poll of another's flight may take.
const POLL_MS: u32 = 1_000;
/// A flight that has not moved for so long is tried to be taken over. Content lets that happen after 30 s without a sign
/// of life, so a download that merely waits for its registry keeps its place.
const STANDSTILL: Duration = Duration::from_secs(30);
/// Pause before asking again for a place that was taken and is not: its holder is just leaving.
const AGAIN: Duration = Duration::from_millis(100);
/// Times a place may be refused that nobody seems to hold: longer than content keeps one for a silent writer.
const REFUSALS: usize = 600;

/// Where a job stands with its blob.
pub(crate) enum Place<'a> {
    /// It was there before.
    Existed,
    /// Somebody else brought it while we watched.
    Landed,
    /// Ours to write; the permit is that of a large download.
    Ours(Box<BlobWriter>, Option<SemaphorePermit<'a>>),
}

/// Finds a job's place. `large` bounds large downloads, `turns` says who writes next; `watched` is told how far another's flight is.
pub(crate) async fn find<'a>(
    content: &Arc<dyn Content>,
    descriptor: &Descriptor,
    large: Option<&'a Semaphore>,
    turns: &Turns,
    watched: &(dyn Fn(u64) + Send + Sync),
) -> Result<Place<'a>, Status> {
    // Nobody waits for a permit for a blob that is there or on its way. Where none is needed, the place is asked for at once:
    // a refusal says the same.
    let mut news = match large {
        Some(_) => Some(look(content, descriptor, &WatchBlobReply::default()).await?),
        None => None,
    };
    if news.as_ref().is_some_and(|news| news.state() == State::Committed) {
        return Ok(Place::Existed);
    }
    let mut refusals = 0;
    loop {
        let looked = news.is_some();
        if let Some(news) = news {
            let landed = match news.state() {
                State::Committed => true,
                State::Absent | State::Idle => false,
                State::Growing => wait::on("another flight", follow(content, descriptor, news, watched)).await?,
            };
            if landed {
                return Ok(Place::Landed);
            }
        }
        let permit = match large {
            Some(large) => Some(
                wait::on("other large downloads", large.acquire())
                    .await
                    .map_err(|closed| Status::unavailable(closed.to_string()))?,
            ),
            None => None,
        };
        let opened =
            BlobWriter::open(Arc::clone(content), &descriptor.ingest_ref(), Some(&descriptor.digest), descriptor.size)
                .await;
        match opened {
            Ok(writer) => return Ok(Place::Ours(Box::new(writer.in_turns(turns, descriptor.size)), permit)),
            Err(status) if status.code == Code::AlreadyExists => {
                return Ok(if looked { Place::Landed } else { Place::Existed });
            }
            Err(status) if status.code == Code::Unavailable && refusals < REFUSALS => {
                drop(permit);
                tracing::debug!(%status, "another download is under way");
                // Who has not looked yet does so first.
                if looked {
                    refusals += 1;
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Err(status) => return Err(status),
        }
        news = Some(look(content, descriptor, &WatchBlobReply::default()).await?);
    }
}

/// Watches another's flight to its end: true when the blob is there, false when the place is free or seems to be.
async fn follow(
    content: &Arc<dyn Content>,
    descriptor: &Descriptor,
    mut seen: WatchBlobReply,
    watched: &(dyn Fn(u64) + Send + Sync),
) -> Result<bool, Status> {
    watched(seen.frontier);
    let mut moved = Instant::now();
    loop {
        let news = look(content, descriptor, &seen).await?;
        match news.state() {
            State::Committed => return Ok(true),
            State::Absent | State::Idle => return Ok(false),
            State::Growing => {}
        }
        if (news.generation, news.frontier) != (seen.generation, seen.frontier) {
            moved = Instant::now();
            watched(news.frontier);
        } else if moved.elapsed() >= STANDSTILL {
            return Ok(false);
        }
        seen = news;
    }
}

/// What has become of a blob since it was seen; at once, if it was not.
async fn look(
    content: &Arc<dyn Content>,
    descriptor: &Descriptor,
    seen: &WatchBlobReply,
) -> Result<WatchBlobReply, Status> {
    let request = WatchBlobRequest {
        digest: descriptor.digest.to_string(),
        r#ref: String::new(),
        generation: seen.generation,
        frontier: seen.frontier,
        wait_ms: if seen.generation == 0 { 0 } else { POLL_MS },
    };
    content.watch_blob(request).await
}
