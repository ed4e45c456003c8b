//! The stages of one layer, each on a thread of its own: read and inflate; hash; untar (the caller's thread).
//!
//! They overlap, and overlap with the download. Buffers are handed over in bounded queues: at most [`QUEUE`] buffers of
//! [`BUFFER`] bytes wait for each of the two consumers, so a layer holds at most 8 MiB whatever its size, beside what its writers have.

use std::{
    io::{self, Read},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use berth_api::buffers::Pool;
use berth_model::Digest;
use berth_telemetry::effort::{Effort, OfThread};
use bytes::Bytes;
use sha2::Digest as _;

use crate::{
    bypass, decompress,
    error::ApplyError,
    helped,
    pieces::{self, Pieces},
    shares::Share,
};

const BUFFER: usize = 256 << 10;
const QUEUE: usize = 12;
/// Buffers that are kept for the next layer.
const KEPT: usize = 8 * QUEUE;

static BUFFERS: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::new(BUFFER, KEPT));
/// Layers that use them.
static LAYERS: AtomicUsize = AtomicUsize::new(0);

/// A layer that uses them. With the last one their memory goes.
struct InUse;

impl InUse {
    fn begin() -> Self {
        LAYERS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if LAYERS.fetch_sub(1, Ordering::Relaxed) == 1 {
            BUFFERS.clear();
            bypass::clear();
        }
    }
}

/// What came out of the stages beside the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The digest of the uncompressed bytes, all of them, also after the archive's end.
    pub diff_id: Digest,
    /// How many there were.
    pub size: u64,
}

/// For how long each stage was busy; not how long it waited for its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Waiting for bytes of the blob, and reading them.
    pub source: Duration,
    /// Inflating.
    pub inflate: Effort,
    /// Hashing what came out.
    pub hash: Effort,
    /// Making files; of the caller's own thread. When it waited for those that help it, it was held up by what they were.
    pub untar: Effort,
}

/// Runs `consume` over the uncompressed bytes of `source`, and hashes them meanwhile. The source is read to its end, also
/// what `consume` leaves unread.
pub fn run<T>(
    source: impl Read + Send,
    consume: impl FnOnce(&mut dyn Pieces) -> Result<T, ApplyError>,
) -> Result<(T, Streamed), ApplyError> {
    timed(source, None, consume).map(|(value, streamed, _)| (value, streamed))
}

/// The same, on threads that have the layer's share of the processors; and what it took.
pub fn timed<T>(
    source: impl Read + Send,
    share: Option<&Arc<Share>>,
    consume: impl FnOnce(&mut dyn Pieces) -> Result<T, ApplyError>,
) -> Result<(T, Streamed, Spent), ApplyError> {
    let _in_use = InUse::begin();
    let join = || share.and_then(Share::join);
    let _member = join();
    let watch = OfThread::begin();
    helped::forget();
    let failure = Arc::new(Mutex::new(None));
    let (to_untar, untar_from) = sync_channel(QUEUE);
    let (to_hash, hash_from) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let failed = Arc::clone(&failure);
        let inflate = spawn("layer-inflate").spawn_scoped(scope, move || {
            let _member = join();
            let mut spent = Spent::default();
            if let Err(error) = inflate(source, &to_untar, &to_hash, &mut spent) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            spent
        });
        let hash = spawn("layer-hash").spawn_scoped(scope, move || {
            let _member = join();
            hash(&hash_from)
        });
        let (Ok(inflate), Ok(hash)) = (inflate, hash) else {
            return Err(ApplyError::refused(b"", "start a thread", io::Error::from(io::ErrorKind::OutOfMemory)));
        };
        let mut reader = Buffers { from: untar_from, current: Bytes::new(), waited: Duration::ZERO };
        let consumed = consume(&mut reader).inspect(|_| reader.drain());
        let untar = with_help(watch.end(reader.waited), helped::take());
        // The stages end when nobody listens.
        drop(reader);
        let stages = (inflate.join(), hash.join());
        // What the source said is the cause of whatever the consumer stumbled over.
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let value = consumed?;
        match stages {
            (Ok(spent), Ok((streamed, hash))) => Ok((value, streamed, Spent { hash, untar, ..spent })),
            _ => Err(ApplyError::Damaged("a stage of the unpacking panicked".to_owned())),
        }
    })
}

/// What the thread of a layer was at: alone, and while it waited for others.
pub(crate) fn with_help(own: Effort, help: Effort) -> Effort {
    // To itself, waiting for others looks like being held up.
    let held_up = own.held_up.saturating_sub(help.busy) + help.held_up;
    Effort { busy: own.busy, starved: own.starved + help.starved, held_up }
}

fn inflate(
    source: impl Read + Send,
    untar: &SyncSender<Bytes>,
    hash: &SyncSender<Bytes>,
    spent: &mut Spent,
) -> Result<(), ApplyError> {
    let watch = OfThread::begin();
    let (mut reading, mut handing_over) = (Duration::ZERO, Duration::ZERO);
    let done = inflate_all(source, &mut reading, |bytes| {
        let since = Instant::now();
        // A consumer that is gone has its reasons, and tells them itself.
        let wanted = hash.send(bytes.clone()).is_ok() && untar.send(bytes).is_ok();
        handing_over += since.elapsed();
        wanted
    });
    spent.source = reading;
    spent.inflate = watch.end(reading + handing_over);
    done
}

fn inflate_all(
    source: impl Read + Send,
    reading: &mut Duration,
    mut hand_over: impl FnMut(Bytes) -> bool,
) -> Result<(), ApplyError> {
    let mut counted = Counted::new(source, reading);
    let (compression, mut reader) = decompress::open(&mut counted).map_err(|error| source_error(error, "", 0))?;
    let failed = loop {
        let mut buffer = BUFFERS.take();
        let mut error = None;
        while !buffer.room().is_empty() {
            match reader.read(buffer.room()) {
                Ok(0) => break,
                Ok(read) => buffer.filled(read),
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                Err(stop) => {
                    error = Some(stop);
                    break;
                }
            }
        }
        if let Some(error) = error {
            break error;
        }
        let bytes = buffer.share();
        if bytes.is_empty() {
            return Ok(());
        }
        if !hand_over(bytes) {
            return Ok(());
        }
    };
    drop(reader);
    Err(source_error(failed, compression.name(), counted.offset))
}

/// An error of the stream: the source's own, if it is one; otherwise damage, with the place.
pub(crate) fn source_error(error: io::Error, compression: &str, offset: u64) -> ApplyError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<berth_model::Status>()) {
        Some(status) => ApplyError::Source(status.clone()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => ApplyError::Damaged(format!(
            "the {compression} stream is truncated: it ends after {offset} bytes in the middle"
        )),
        None => ApplyError::Damaged(format!("the {compression} stream is corrupt near byte {offset}: {error}")),
    }
}

fn hash(from: &Receiver<Bytes>) -> (Streamed, Effort) {
    let (mut state, mut size) = (sha2::Sha256::new(), 0);
    let (watch, mut waited, mut since) = (OfThread::begin(), Duration::ZERO, Instant::now());
    for bytes in from {
        waited += since.elapsed();
        state.update(&bytes);
        size += bytes.len() as u64;
        since = Instant::now();
    }
    waited += since.elapsed();
    (Streamed { diff_id: Digest::from_sha256(state.finalize().into()), size }, watch.end(waited))
}

/// Counts the bytes that are read, and the time that takes.
pub(crate) struct Counted<'a, R> {
    inner: R,
    offset: u64,
    reading: &'a mut Duration,
}

impl<'a, R> Counted<'a, R> {
    pub(crate) fn new(inner: R, reading: &'a mut Duration) -> Self {
        Self { inner, offset: 0, reading }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let since = Instant::now();
        let read = self.inner.read(buffer);
        *self.reading += since.elapsed();
        let read = read?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Reads what was handed over; ends when the sender does.
struct Buffers {
    from: Receiver<Bytes>,
    current: Bytes,
    /// For something to come.
    waited: Duration,
}

impl Buffers {
    /// Reads to the end.
    fn drain(&mut self) {
        self.current.clear();
        while self.next().is_some() {}
    }

    fn next(&mut self) -> Option<Bytes> {
        let since = Instant::now();
        let next = self.from.recv().ok();
        self.waited += since.elapsed();
        next
    }
}

impl Pieces for Buffers {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        if self.current.is_empty() {
            match self.next() {
                Some(bytes) => self.current = bytes,
                None => return Ok(Bytes::new()),
            }
        }
        Ok(self.current.split_to(most.min(self.current.len())))
    }
}

impl Read for Buffers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        pieces::read(self, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_everything_also_what_nobody_reads() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 3) as u8).collect();
        let packed = zstd::encode_all(&bytes[..], 1).unwrap();
        let (first, streamed) = run(&packed[..], |reader| {
            let mut first = [0; 10];
            reader.read_exact(&mut first).map_err(|error| ApplyError::Damaged(error.to_string()))?;
            Ok(first)
        })
        .unwrap();
        assert_eq!(first, bytes[..10]);
        assert_eq!(streamed, Streamed { diff_id: Digest::of(&bytes), size: bytes.len() as u64 });
    }

    #[test]
    fn the_cause_is_told_not_the_symptom() {
        let packed = zstd::encode_all(&vec![7; 3_000_000][..], 1).unwrap();
        let cut = &packed[..packed.len() - 5];
        let error = run(cut, |reader| {
            io::copy(reader, &mut io::sink()).unwrap();
            Err::<(), _>(ApplyError::hostile(b"x", "a symptom"))
        });
        assert!(error.unwrap_err().to_string().contains("zstd stream is truncated"));
        let stop = run(&packed[..], |_| Err::<(), _>(ApplyError::Cancelled));
        assert!(matches!(stop, Err(ApplyError::Cancelled)), "a consumer that stops does not hang the stages");
    }
}
