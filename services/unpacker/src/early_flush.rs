//! Has the disk begin to write while layers are still unpacked, so that the flush before their commit finds little left.
//!
//! Parts of large files are named to the kernel when they are done with ([`berth_api::early_flush`]). The many small ones are flushed with the rest of
//! their file system whenever enough of them have come together; one flush at a time, on a thread of its own.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// A flush is begun after so much was written. A file costs the disk about as much as so many bytes.
const ENOUGH: u64 = 64 << 20;
const FILE_BYTES: u64 = 8 << 10;

/// Begins flushes of the file system that layers are unpacked to.
#[derive(Default)]
pub(crate) struct EarlyFlush {
    written: AtomicU64,
    busy: Arc<AtomicBool>,
}

impl EarlyFlush {
    /// What came together since the last flush was begun.
    pub(crate) fn waiting(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// So many files with so many bytes were made in a directory.
    pub(crate) fn wrote(&self, dir: &Arc<OwnedFd>, files: usize, bytes: usize) {
        let cost = bytes as u64 + files as u64 * FILE_BYTES;
        if self.written.fetch_add(cost, Ordering::Relaxed) + cost < ENOUGH || self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let (dir, busy) = (Arc::clone(dir), Arc::clone(&self.busy));
        let flush = move || {
            // What fails is told by the flush before the commit, which counts.
            let _only_a_head_start = rustix::fs::syncfs(&*dir);
            busy.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("early-flush".to_owned()).spawn(flush).is_err() {
            self.busy.store(false, Ordering::Release);
        }
    }
}
