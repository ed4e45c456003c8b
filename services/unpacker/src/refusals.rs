//! What the disk refused of what was unpacked. The kernel tells of a failed write once, to whoever flushes next (errseq_t in
//! the kernel's documentation); a flush after that says that all is well, and the bytes are lost. So whoever hears of it sees
//! to it that nothing counts as whole that was not committed by then: not here, and, as its proof is gone, not elsewhere.

use std::{
    fmt::Display,
    sync::atomic::{AtomicU64, Ordering},
};

use berth_model::Status;

use crate::{layout::Layout, unpacked::Unpacked};

/// Those of one process.
#[derive(Default)]
pub struct Refusals {
    layouts: Vec<Layout>,
    heard: AtomicU64,
}

impl Refusals {
    /// Of the disk that these are on.
    #[must_use]
    pub fn of(layouts: Vec<Layout>) -> Self {
        Self { layouts, heard: AtomicU64::new(0) }
    }

    /// How many there were.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Err if there was one since.
    pub fn none_since(&self, heard: u64) -> Result<(), Status> {
        if self.heard() == heard {
            return Ok(());
        }
        Err(Status::unavailable(
            "the disk refused some of what was written meanwhile, so what was unpacked may not be whole; see to the disk, and \
             try again: it is unpacked anew",
        ))
    }

    /// A flush that failed is one.
    pub fn note<T, E: Display>(&self, flushed: Result<T, E>) -> Result<T, E> {
        if let Err(error) = &flushed {
            self.refused(error);
        }
        flushed
    }

    fn refused(&self, error: &impl Display) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        tracing::error!(%error, "the disk refused what was unpacked; what is not committed is unpacked anew when it is wanted again");
        for layout in &self.layouts {
            match layout.ids() {
                Ok(ids) => ids.into_iter().for_each(|id| Unpacked::drop_kept(&layout.dir(id))),
                Err(status) => tracing::error!(%status, "what may not be whole still counts as whole"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Digest;

    use super::*;
    use crate::{pipeline::Streamed, residue::Residue};

    #[test]
    fn after_a_refusal_nothing_counts_as_whole() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let dirs = [layout.dir(1), layout.dir(2)];
        for dir in &dirs {
            std::fs::create_dir_all(dir).unwrap();
            Unpacked::keep(Residue::default(), &Streamed { diff_id: Digest::of(b"a"), size: 1 }, dir).unwrap();
        }
        let refusals = Refusals::of(vec![layout]);
        let before = refusals.heard();
        refusals.note(Ok::<_, Status>(())).unwrap();
        refusals.none_since(before).unwrap();
        assert!(dirs.iter().all(|dir| Unpacked::kept(dir).unwrap().is_some()));
        refusals.note(Err::<(), _>(std::io::Error::other("broken"))).unwrap_err();
        assert!(refusals.none_since(before).unwrap_err().message.contains("unpacked anew"));
        assert!(dirs.iter().all(|dir| Unpacked::kept(dir).unwrap().is_none()));
        refusals.none_since(refusals.heard()).unwrap();
    }
}
