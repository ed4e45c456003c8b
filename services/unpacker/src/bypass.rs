//! Large files past the page cache, if the disk is fast: half of what a pull of large files costs would be to fill pages that
//! the disk then gets, and other programs would lose theirs. A container that reads such a file reads it from the disk, which
//! is why the disk has to be fast; whether it is, is seen while it is written to.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_api::{
    buffers::{ALIGNED, Lent, Pool},
    direct::Direct,
};
use berth_failpoint::{Point, check};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// A smaller file goes through the page cache.
const LARGE: u64 = 8 << 20;
/// Written at once.
const PIECE: usize = 1 << 20;
/// Place on the disk is asked for so many bytes at once, to spare the file system work. Not for all that an archive says is to
/// come: it may lie.
const AHEAD: u64 = 16 << 20;
/// Buffers kept for the next file.
const KEPT: usize = 8;
/// Bytes a second that a fast disk takes at its best; it may be busy with other pieces most of the time.
const FAST: f64 = 1e9;
/// What a disk is believed to take before it was seen.
const BELIEVED: f64 = 4e9;
/// What is left of that, or of the best that was seen, after each slower piece: so it takes some seventy slow ones to tell.
const LEFT: f64 = 0.98;
/// A disk that was slow is tried again after so long.
const AGAIN: Duration = Duration::from_secs(600);

static BUFFERS: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::new(PIECE, KEPT));
static DISK: Disk = Disk::new();

/// Gives back the memory of buffers that no file uses.
pub(crate) fn clear() {
    BUFFERS.clear();
}

/// How fast a disk takes such writes.
struct Disk(Mutex<Speed>);

struct Speed {
    /// Bytes a second.
    best: f64,
    /// It was last seen to be slow.
    slow: Option<Instant>,
}

impl Disk {
    const fn new() -> Self {
        Self(Mutex::new(Speed { best: BELIEVED, slow: None }))
    }

    fn speed(&self) -> MutexGuard<'_, Speed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fast, as far as is known.
    fn is_fast(&self, now: Instant) -> bool {
        let mut speed = self.speed();
        if speed.slow.is_some_and(|slow| now.saturating_duration_since(slow) >= AGAIN) {
            *speed = Speed { best: BELIEVED, slow: None };
        }
        speed.slow.is_none()
    }

    /// It took a piece in this time, which ended now.
    fn took(&self, length: usize, time: Duration, now: Instant) {
        let rate = length as f64 / time.as_secs_f64().max(1e-9);
        let mut speed = self.speed();
        speed.best = rate.max(speed.best * LEFT);
        if speed.best < FAST {
            speed.slow = Some(now);
        }
    }
}

/// A file on this way.
pub(crate) struct Bypass {
    disk: &'static Disk,
    direct: Direct,
    buffer: Lent,
    /// Where the buffer's first byte goes.
    at: u64,
    /// Of so many bytes, which the file will have.
    size: u64,
    /// For so many there is place.
    placed: u64,
}

impl Bypass {
    /// The way for a new file that will have so many bytes. `None`: not this one.
    pub(crate) fn of(file: &File, size: u64) -> io::Result<Option<Self>> {
        Self::on(&DISK, file, size)
    }

    fn on(disk: &'static Disk, file: &File, size: u64) -> io::Result<Option<Self>> {
        if size < LARGE || !disk.is_fast(Instant::now()) {
            return Ok(None);
        }
        let Some(direct) = Direct::of(file) else { return Ok(None) };
        Ok(Some(Self { disk, direct, buffer: BUFFERS.take(), at: 0, size, placed: 0 }))
    }

    /// Has place for what is in the buffer, and for some of what comes.
    fn place(&mut self, file: &File) -> io::Result<()> {
        if self.at + self.buffer.as_ref().len() as u64 <= self.placed {
            return Ok(());
        }
        let length = AHEAD.min(self.size.saturating_sub(self.placed));
        // Not every file system can.
        if length > 0
            && let Err(Errno::NOSPC) = fallocate(file, FallocateFlags::empty(), self.placed, length)
        {
            return Err(Errno::NOSPC.into());
        }
        self.placed += length;
        Ok(())
    }

    /// The next bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8], file: &File) -> io::Result<()> {
        check(Point::UnpackWrite)?;
        while !bytes.is_empty() {
            let room = self.buffer.room();
            let length = room.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(length).unwrap_or_default();
            if let Some(room) = room.get_mut(..length) {
                room.copy_from_slice(now);
            }
            self.buffer.filled(length);
            bytes = later;
            if self.buffer.room().is_empty() {
                self.flush(file)?;
            }
        }
        Ok(())
    }

    /// What is in the buffer: whole blocks past the page cache, the rest through it.
    pub(crate) fn flush(&mut self, file: &File) -> io::Result<()> {
        self.place(file)?;
        let bytes = self.buffer.as_ref();
        let blocks =
            if self.direct.works() && self.disk.is_fast(Instant::now()) { bytes.len() / ALIGNED * ALIGNED } else { 0 };
        let (past, through) = bytes.split_at_checked(blocks).unwrap_or_default();
        if !past.is_empty() {
            let since = Instant::now();
            self.direct.write_all_at(past, self.at, file)?;
            self.disk.took(past.len(), since.elapsed(), Instant::now());
        }
        file.write_all_at(through, self.at + past.len() as u64)?;
        self.at += bytes.len() as u64;
        self.buffer.shorten(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for more in [0, 1, 4095, 4096, PIECE - 1, 2 * AHEAD as usize + 1] {
            let path = dir.path().join(format!("large-{more}"));
            let file = File::create(&path).unwrap();
            let bytes: Vec<u8> = (0..usize::try_from(LARGE).unwrap() + more).map(|n| (n / 7) as u8).collect();
            let disk = Box::leak(Box::new(Disk::new()));
            let mut bypass = Bypass::on(disk, &file, bytes.len() as u64).unwrap().expect("no O_DIRECT here");
            for piece in bytes.chunks(300_001) {
                bypass.write(piece, &file).unwrap();
            }
            bypass.flush(&file).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{more}");
        }
        let file = File::create(dir.path().join("small")).unwrap();
        assert!(Bypass::of(&file, LARGE - 1).unwrap().is_none());
    }

    #[test]
    fn what_an_archive_says_is_not_taken_from_the_disk_at_once() {
        let file = tempfile::tempfile().unwrap();
        let disk = Box::leak(Box::new(Disk::new()));
        let mut bypass = Bypass::on(disk, &file, 1 << 45).unwrap().expect("no O_DIRECT here");
        bypass.write(&vec![1; 3 * PIECE], &file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), AHEAD);
    }

    #[test]
    fn a_slow_disk_is_left_and_tried_again() {
        let disk = Disk::new();
        let now = Instant::now();
        let took = |millis, times| (0..times).for_each(|_| disk.took(PIECE, Duration::from_millis(millis), now));
        took(20, 60);
        assert!(disk.is_fast(now), "it may have been busy");
        took(1, 1);
        took(20, 2);
        assert!(disk.is_fast(now), "it is fast now and then");
        took(20, 40);
        assert!(!disk.is_fast(now));
        assert!(disk.is_fast(now + AGAIN), "perhaps it is another one");
        took(2, 100);
        assert!(!disk.is_fast(now), "half as fast as it should be");
    }
}
