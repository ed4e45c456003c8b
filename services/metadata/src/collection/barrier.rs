//! What changes while a mark is in force: everything written then is kept, with all that it refers to.
//!
//! A mark reads one state of the tables; what refers to what may change before its sweep is over. A thing can gain a
//! reference only by a write: of whatever refers to it, or of a lease. Each such write is noted here, in the thread
//! that makes all changes one after another; so the sweep, which runs there too, misses none.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::node::Node;
use crate::fences::{Fence, Fences};

/// So many are noted; a mark during which more is written is given up.
const MOST: usize = 200_000;

/// The notes.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    up: AtomicBool,
    noted: Mutex<Noted>,
    fences: Fences,
}

#[derive(Debug, Default)]
struct Noted {
    nodes: HashSet<Node>,
    too_many: bool,
}

impl Barrier {
    pub(crate) fn new(fences: Fences) -> Self {
        Self { fences, ..Self::default() }
    }

    pub(crate) fn fences(&self) -> Fences {
        self.fences
    }

    /// Whether a test took this fence away.
    pub(crate) fn lacks(&self, fence: Fence) -> bool {
        self.fences.lacks(fence)
    }

    /// From now on writes are noted.
    pub(crate) fn raise(&self) {
        *self.noted() = Noted::default();
        self.up.store(true, Ordering::Release);
    }

    pub(crate) fn lower(&self) {
        self.up.store(false, Ordering::Release);
        *self.noted() = Noted::default();
    }

    /// Notes a write, if anybody wants to know. Also of changes that fail in the end: that keeps more, never less.
    pub(crate) fn note(&self, node: impl FnOnce() -> Option<Node>) {
        if !self.up.load(Ordering::Acquire) || self.lacks(Fence::Barrier) {
            return;
        }
        let Some(node) = node() else { return };
        let mut noted = self.noted();
        if noted.nodes.len() < MOST {
            noted.nodes.insert(node);
        } else {
            noted.too_many = true;
        }
    }

    /// How much is noted.
    pub(crate) fn count(&self) -> usize {
        self.noted().nodes.len()
    }

    /// What was noted since the last time; `None` if it was too much to note.
    pub(crate) fn take(&self) -> Option<HashSet<Node>> {
        let taken = std::mem::take(&mut *self.noted());
        (!taken.too_many).then_some(taken.nodes)
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
