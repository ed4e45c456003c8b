//! The stages of one layer, each on a thread of its own: read and inflate; hash; untar (the caller's thread).
//!
//! They overlap, and overlap with the download. Buffers are handed over in bounded queues: at most [`QUEUE`] buffers of
//! [`BUFFER`] bytes wait for each of the two consumers, so a layer holds at most 8 MiB whatever its size.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use berth_model::Digest;
use bytes::Bytes;
use sha2::Digest as _;

use crate::{
    decompress,
    error::ApplyError,
    pieces::{Pieces, Pool},
};

const BUFFER: usize = 256 << 10;
const QUEUE: usize = 12;

/// What came out of the stages beside the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The digest of the uncompressed bytes, all of them, also after the archive's end.
    pub diff_id: Digest,
    /// How many there were.
    pub size: u64,
}

/// Runs `consume` over the uncompressed bytes of `source`, and hashes them meanwhile. The source is read to its end, also
/// what `consume` leaves unread.
pub fn run<T>(
    source: impl Read + Send,
    consume: impl FnOnce(&mut dyn Pieces) -> Result<T, ApplyError>,
) -> Result<(T, Streamed), ApplyError> {
    let failure = Arc::new(Mutex::new(None));
    let (to_untar, untar_from) = sync_channel(QUEUE);
    let (to_hash, hash_from) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let failed = Arc::clone(&failure);
        let inflate = spawn("layer-inflate").spawn_scoped(scope, move || {
            if let Err(error) = inflate(source, &to_untar, &to_hash) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        let hash = spawn("layer-hash").spawn_scoped(scope, move || hash(&hash_from));
        let (Ok(inflate), Ok(hash)) = (inflate, hash) else {
            return Err(ApplyError::refused(b"", "start a thread", io::Error::from(io::ErrorKind::OutOfMemory)));
        };
        let mut reader = Buffers { from: untar_from, current: Bytes::new() };
        let consumed = consume(&mut reader).inspect(|_| reader.drain());
        // The stages end when nobody listens.
        drop(reader);
        let stages = (inflate.join(), hash.join());
        // What the source said is the cause of whatever the consumer stumbled over.
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let value = consumed?;
        match stages {
            (Ok(()), Ok(streamed)) => Ok((value, streamed)),
            _ => Err(ApplyError::Damaged("a stage of the unpacking panicked".to_owned())),
        }
    })
}

fn inflate(source: impl Read + Send, untar: &SyncSender<Bytes>, hash: &SyncSender<Bytes>) -> Result<(), ApplyError> {
    let mut counted = Counted { inner: source, offset: 0 };
    let (compression, mut reader) = decompress::open(&mut counted).map_err(|error| source_error(error, "", 0))?;
    let pool = Pool::new(BUFFER, 2 * QUEUE);
    let failed = loop {
        let mut buffer = pool.take();
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
        // A consumer that is gone has its reasons, and tells them itself.
        if hash.send(bytes.clone()).is_err() || untar.send(bytes).is_err() {
            return Ok(());
        }
    };
    drop(reader);
    Err(source_error(failed, compression.name(), counted.offset))
}

/// An error of the stream: the source's own, if it is one; otherwise damage, with the place.
fn source_error(error: io::Error, compression: &str, offset: u64) -> ApplyError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<berth_model::Status>()) {
        Some(status) => ApplyError::Source(status.clone()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => ApplyError::Damaged(format!(
            "the {compression} stream is truncated: it ends after {offset} bytes in the middle"
        )),
        None => ApplyError::Damaged(format!("the {compression} stream is corrupt near byte {offset}: {error}")),
    }
}

fn hash(from: &Receiver<Bytes>) -> Streamed {
    let (mut state, mut size) = (sha2::Sha256::new(), 0);
    for bytes in from {
        state.update(&bytes);
        size += bytes.len() as u64;
    }
    Streamed { diff_id: Digest::from_sha256(state.finalize().into()), size }
}

struct Counted<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Reads what was handed over; ends when the sender does.
struct Buffers {
    from: Receiver<Bytes>,
    current: Bytes,
}

impl Buffers {
    /// Reads to the end.
    fn drain(&mut self) {
        self.current.clear();
        while self.from.recv().is_ok() {}
    }
}

impl Pieces for Buffers {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        if self.current.is_empty() {
            match self.from.recv() {
                Ok(bytes) => self.current = bytes,
                Err(_ended) => return Ok(Bytes::new()),
            }
        }
        Ok(self.current.split_to(most.min(self.current.len())))
    }
}

impl Read for Buffers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = self.piece(buffer.len())?;
        if let Some(to) = buffer.get_mut(..part.len()) {
            to.copy_from_slice(&part);
        }
        Ok(part.len())
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
