//! The stages of a small layer, one after the other on the caller's thread: two threads and their queues would cost more than
//! all there is to do. What is in a small blob may be large, and comes in pieces here too.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use berth_model::Digest;
use berth_telemetry::effort::{Effort, OfThread};
use bytes::Bytes;
use sha2::Digest as _;

use crate::{
    decompress,
    error::ApplyError,
    helped,
    pieces::{self, Pieces},
    pipeline::{Counted, Spent, Streamed, source_error, with_help},
};

/// As much as a small blob mostly holds.
const BUFFER: usize = 64 << 10;

/// As [`crate::pipeline::timed`], without threads.
pub(crate) fn timed<T>(
    source: impl Read + Send,
    consume: impl FnOnce(&mut dyn Pieces) -> Result<T, ApplyError>,
) -> Result<(T, Streamed, Spent), ApplyError> {
    let watch = OfThread::begin();
    helped::forget();
    let mut source_time = Duration::ZERO;
    let mut counted = Counted::new(source, &mut source_time);
    let opened = decompress::open_by(&mut counted, BUFFER);
    let (compression, mut reader) = opened.map_err(|error| source_error(error, "", 0))?;
    let mut inline = Inline::new(&mut *reader);
    // Also what is left unread: the digest is of everything.
    let consumed = consume(&mut inline).inspect(|_| while inline.next() {});
    let Inline { failed, state, size, inflate, hash, .. } = inline;
    drop(reader);
    // What the source said is the cause of whatever the consumer stumbled over.
    if let Some(error) = failed {
        return Err(source_error(error, compression.name(), counted.offset()));
    }
    let value = consumed?;
    let inflate = inflate.saturating_sub(source_time);
    let busy = |busy| Effort { busy, ..Effort::default() };
    let untar = with_help(watch.end(source_time + inflate + hash), helped::take());
    let streamed = Streamed { diff_id: Digest::from_sha256(state.finalize().into()), size };
    Ok((value, streamed, Spent { source: source_time, inflate: busy(inflate), hash: busy(hash), untar }))
}

/// Inflates and hashes when somebody asks for bytes.
struct Inline<'a> {
    reader: &'a mut dyn Read,
    current: Bytes,
    state: sha2::Sha256,
    size: u64,
    ended: bool,
    failed: Option<io::Error>,
    /// With reading.
    inflate: Duration,
    hash: Duration,
}

impl<'a> Inline<'a> {
    fn new(reader: &'a mut dyn Read) -> Self {
        Self {
            reader,
            current: Bytes::new(),
            state: sha2::Sha256::new(),
            size: 0,
            ended: false,
            failed: None,
            inflate: Duration::ZERO,
            hash: Duration::ZERO,
        }
    }

    /// Brings more; `false`: there is no more, or no more can be had.
    fn next(&mut self) -> bool {
        self.current.clear();
        if self.ended {
            return false;
        }
        let since = Instant::now();
        let mut bytes = Vec::new();
        match (&mut self.reader).take(BUFFER as u64).read_to_end(&mut bytes) {
            Ok(read) => self.ended = read < BUFFER,
            // What came before it is not worth anything: the layer is not.
            Err(error) => {
                self.failed = Some(error);
                self.ended = true;
                bytes.clear();
            }
        }
        self.inflate += since.elapsed();
        let since = Instant::now();
        self.state.update(&bytes);
        self.hash += since.elapsed();
        self.size += bytes.len() as u64;
        self.current = bytes.into();
        !self.current.is_empty()
    }
}

impl Pieces for Inline<'_> {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        if self.current.is_empty() && !self.next() {
            return Ok(Bytes::new());
        }
        Ok(self.current.split_to(most.min(self.current.len())))
    }
}

impl Read for Inline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        pieces::read(self, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline;

    type Consumed = Result<(Vec<u8>, Streamed), String>;

    fn read(stop_at: usize) -> impl Fn(&mut dyn Pieces) -> Result<Vec<u8>, ApplyError> {
        move |from| {
            let mut bytes = Vec::new();
            let read = from.take(stop_at as u64).read_to_end(&mut bytes);
            read.map_err(|error| ApplyError::Damaged(error.to_string()))?;
            Ok(bytes)
        }
    }

    fn both(packed: &[u8], stop_at: usize) -> [Consumed; 2] {
        let done = [timed(packed, read(stop_at)), pipeline::timed(packed, None, read(stop_at))];
        done.map(|done| done.map(|(bytes, streamed, _)| (bytes, streamed)).map_err(|error| error.to_string()))
    }

    #[test]
    fn the_same_comes_out_as_with_threads() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut ok = 0;
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER, text.len()] {
            let plain = &text[..length];
            let packed = zstd::encode_all(plain, 1).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut gzip, plain).unwrap();
            for whole in [plain.to_vec(), packed, gzip.finish().unwrap()] {
                for cut in [0, 1, whole.len() / 2] {
                    for stop_at in [0, 100, usize::MAX >> 1] {
                        let [small, threads] = both(&whole[..whole.len().saturating_sub(cut)], stop_at);
                        assert_eq!(small, threads, "{length} {cut} {stop_at}");
                        ok += usize::from(small.is_ok());
                    }
                }
            }
        }
        assert!(ok > 60);
    }

    #[test]
    fn what_the_consumer_says_is_told_if_the_source_is_fine() {
        let stop = timed(&b"abc"[..], |_| Err::<(), _>(ApplyError::Cancelled));
        assert!(matches!(stop, Err(ApplyError::Cancelled)));
    }
}
