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

use crate::refusals::Refusals;

/// A flush is begun after so much was written. A file costs the disk about as much as so many bytes.
const ENOUGH: u64 = 64 << 20;
const FILE_BYTES: u64 = 8 << 10;

/// Begins flushes of the file system that layers are unpacked to.
pub(crate) struct EarlyFlush {
    refusals: Arc<Refusals>,
    written: AtomicU64,
    busy: Arc<AtomicBool>,
}

impl EarlyFlush {
    /// What the disk refuses is told there.
    pub(crate) fn new(refusals: Arc<Refusals>) -> Self {
        Self { refusals, written: AtomicU64::default(), busy: Arc::default() }
    }

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
        let (dir, busy, refusals) = (Arc::clone(dir), Arc::clone(&self.busy), Arc::clone(&self.refusals));
        let flush = move || {
            // Only a head start; but what fails here is told to nobody else.
            let _told = refusals.note(rustix::fs::syncfs(&*dir));
            busy.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("early-flush".to_owned()).spawn(flush).is_err() {
            self.busy.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use berth_testing::wait::wait_until;
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn what_the_disk_refuses_is_heard() {
        let refusals = Arc::new(Refusals::default());
        let early = EarlyFlush::new(Arc::clone(&refusals));
        // Nothing can be flushed by it.
        let path = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
        early.wrote(&Arc::new(path), 1, ENOUGH as usize);
        wait_until("the refusal", Duration::from_secs(10), || refusals.heard() == 1, || ());
    }
}
