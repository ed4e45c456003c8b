//! The driver of one download: keeps opening the object where it broke until all of it is there.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use berth_model::{Descriptor, Reference, Status};
use berth_telemetry::wait;
use bytes::Bytes;

use crate::{
    access::Access,
    client::RegistryClient,
    incoming::{Incoming, Manner},
    numbers,
    retry::Tries,
};

/// How long to listen for bytes after the last one.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Times there may be trouble with a blob before no pieces of it are asked for any more.
const MOST_TROUBLE: usize = 3;

/// After so long without bytes the sink tells of those that came last.
const SOON: Duration = Duration::from_millis(100);

/// Where the bytes go, and how many are there.
#[async_trait]
pub trait BlobSink: Send {
    /// Bytes there, without a gap.
    fn offset(&self) -> u64;
    /// Appends bytes at [`BlobSink::offset`].
    async fn write(&mut self, bytes: Bytes) -> Result<(), Status>;
    /// For how long it was held up by those who use the bytes, since it was last asked.
    fn held_up(&mut self) -> Duration {
        Duration::ZERO
    }
    /// Called once when there is nothing to write for a moment.
    async fn rest(&mut self) -> Result<(), Status> {
        Ok(())
    }
    /// Called now and then while there is nothing to write.
    async fn alive(&mut self) -> Result<(), Status> {
        Ok(())
    }
}

/// What a finished download took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes that were received and kept.
    pub bytes: u64,
    /// Times the object was opened.
    pub opened: u64,
}

/// How a body ended that did not fail the download.
enum Ended {
    Complete,
    /// All of a part that was asked for is there.
    Part,
    /// Broken or short: its cause, whose doing it is, and what to tell if nothing more comes of it.
    Early(&'static str, String, Status),
}

impl RegistryClient {
    /// Brings the sink from its offset to the descriptor's size. The bytes are not verified; whoever commits them does.
    ///
    /// Each time a body breaks it is opened again where it broke; the tries are counted anew after progress.
    /// `progress` is told the offset after each write. Errors of the sink end it.
    pub async fn fetch_into(
        self: &Arc<Self>,
        sink: &mut dyn BlobSink,
        descriptor: &Descriptor,
        reference: &Reference,
        access: &Access,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Fetched, Status> {
        self.fetch(sink, &Named { descriptor, reference }, access, progress, false).await
    }

    /// As [`Self::fetch_into`]. `anew`: the bytes were wrong, so all of it is asked for at once; what was wrong in a part of it
    /// may be so in that part again.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        sink: &mut dyn BlobSink,
        named: &Named<'_>,
        access: &Access,
        progress: &(dyn Fn(u64) + Send + Sync),
        anew: bool,
    ) -> Result<Fetched, Status> {
        let Named { descriptor, reference } = *named;
        // How often there may still be trouble before it comes by one connection to its end.
        let mut patience = if anew { 0 } else { MOST_TROUBLE };
        let mut fetched = Fetched::default();
        let mut tries = Tries::new(&self.options);
        let mut counted_from = sink.offset();
        // After trouble one connection has to do for a while.
        let mut alone_until = 0;
        loop {
            let start = sink.offset();
            if start > descriptor.size {
                return Err(named.too_long(start));
            }
            if start == descriptor.size {
                return Ok(fetched);
            }
            let manner = match patience {
                0 => Manner::Rest,
                _ if start < alone_until => Manner::Alone,
                _ => Manner::Pieces,
            };
            let opening = self.incoming(descriptor, reference, access, start, manner);
            let mut body = self.while_alive(sink, opening).await??;
            fetched.opened += 1;
            tracing::debug!(target: berth_telemetry::STEP, from = start, "range");
            let ended = self.drain(sink, &mut body, named, progress).await?;
            drop(body);
            fetched.bytes += sink.offset() - start;
            let (cause, host, why) = match ended {
                Ended::Complete => return Ok(fetched),
                Ended::Part => continue,
                Ended::Early(cause, host, why) => (cause, host, why),
            };
            patience = patience.saturating_sub(1);
            alone_until = sink.offset().saturating_add(self.options.stretch_bytes);
            if sink.offset() - counted_from >= self.options.progress_bytes {
                tries = Tries::new(&self.options);
                counted_from = sink.offset();
            }
            let Some(pause) = tries.next() else { return Err(why) };
            numbers::retry(cause, &host);
            tracing::debug!(%why, offset = sink.offset(), ?pause, "opening again");
            wait::on("retry", self.while_alive(sink, tokio::time::sleep(pause))).await?;
        }
    }

    /// Waits for `work`, and lets the sink give signs of life meanwhile.
    async fn while_alive<T>(&self, sink: &mut dyn BlobSink, work: impl Future<Output = T> + Send) -> Result<T, Status> {
        let mut work = std::pin::pin!(work);
        let sign_of_life = self.options.sign_of_life;
        if SOON < sign_of_life {
            // Who follows the bytes may be waiting for the last ones.
            match tokio::time::timeout(SOON, work.as_mut()).await {
                Ok(done) => return Ok(done),
                Err(_still_waiting) => sink.rest().await?,
            }
        }
        loop {
            match tokio::time::timeout(sign_of_life, work.as_mut()).await {
                Ok(done) => return Ok(done),
                Err(_still_waiting) => sink.alive().await?,
            }
        }
    }

    async fn drain(
        &self,
        sink: &mut dyn BlobSink,
        body: &mut Incoming,
        named: &Named<'_>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Ended, Status> {
        let size = named.descriptor.size;
        loop {
            if sink.offset() == size {
                // What follows is only of interest to tell a wrong size from a wrong digest.
                return match tokio::time::timeout(AFTERMATH, body.chunk()).await {
                    Ok(Ok(Some(more))) => Err(named.too_long(size + more.len() as u64)),
                    _ => Ok(Ended::Complete),
                };
            }
            match self.while_alive(sink, body.chunk()).await? {
                Ok(Some(bytes)) => {
                    let after = sink.offset() + bytes.len() as u64;
                    if after > size {
                        return Err(named.too_long(after));
                    }
                    sink.write(bytes).await?;
                    progress(sink.offset());
                }
                Ok(None) if body.may_go_on() => return Ok(Ended::Part),
                Ok(None) => {
                    return Ok(Ended::Early("short", body.host(), named.too_short(sink.offset())));
                }
                Err(failure) => {
                    return Ok(Ended::Early(failure.kind.word(), failure.host.clone(), failure.status(named)));
                }
            }
        }
    }
}

/// Names the download in errors.
pub(crate) struct Named<'a> {
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) reference: &'a Reference,
}

impl Named<'_> {
    fn too_long(&self, seen: u64) -> Status {
        Status::failed_precondition(format!(
            "{self} is longer than its descriptor says ({seen} > {} bytes); it is broken at its source",
            self.descriptor.size
        ))
    }

    fn too_short(&self, seen: u64) -> Status {
        Status::unavailable(format!(
            "{self} ended after {seen} of {} bytes; the registry, or something in between, serves only a part of it",
            self.descriptor.size
        ))
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.descriptor.media_type.kind();
        write!(
            f,
            "{} {} of {}/{}",
            if kind == berth_model::Kind::Unknown { "blob" } else { kind.as_str() },
            self.descriptor.digest,
            self.reference.registry(),
            self.reference.repository()
        )
    }
}
