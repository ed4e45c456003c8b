//! Collection: what nothing refers to any more, found by a mark and deleted by a sweep.
//!
//! A mark reads one state of the tables while others go on writing. What they write is noted ([`Barrier`]); the sweep
//! first keeps that and all it refers to, and then deletes, in the same change. So nothing is deleted that gained a
//! reference or a lease after the mark began, and nobody waits for a mark.
//!
//! There is one round at a time. It lives in memory: a sweep after a restart has no mark to go by and is refused.

mod barrier;
mod graph;
mod images;
mod node;
mod round;
mod scan;
mod why;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_model::Status;

use crate::fences::Fences;
pub(crate) use barrier::Barrier;
pub(crate) use images::{Totals, of_images};
pub(crate) use node::Node;
pub(crate) use round::Round;

pub(crate) use why::{chain, exists, namespaces_of};

/// The round that is in force, if any.
#[derive(Debug)]
pub(crate) struct Collection {
    pub(crate) barrier: Arc<Barrier>,
    state: Mutex<State>,
    patience: Patience,
}

/// After what time another round may begin. The one before it ends then, and not sooner; and whatever its collector asks for
/// afterwards is refused, as that names a mark that is not in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Its collector asked for nothing.
    pub(crate) silence: Duration,
    /// Nobody watches it, though its collector said that it would.
    pub(crate) unwatched: Duration,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Reading the tables.
    Marking,
    Marked {
        round: Box<Round>,
        heard: Instant,
        watched: Option<Watched>,
    },
}

/// Whether a round's collector is there.
#[derive(Debug)]
struct Watched {
    watchers: usize,
    /// Since when there is none.
    left: Instant,
}

impl Watched {
    fn is_left(&self, patience: Duration) -> bool {
        self.watchers == 0 && self.left.elapsed() >= patience
    }
}

/// A collector that watches its round, for as long as this is not dropped.
pub(crate) struct Watcher<'a> {
    collection: &'a Collection,
    id: String,
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.collection.watchers(&self.id, |watched| {
            watched.watchers = watched.watchers.saturating_sub(1);
            watched.left = Instant::now();
        });
    }
}

impl Collection {
    pub(crate) fn new(fences: Fences, patience: Patience) -> Self {
        Self { barrier: Arc::new(Barrier::new(fences)), state: Mutex::default(), patience }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the only place for a round.
    pub(crate) fn begin(&self) -> Result<(), Status> {
        let mut state = self.state();
        let Patience { silence, unwatched } = self.patience;
        match &*state {
            State::Marking => return Err(Status::unavailable("a mark is under way; try again when it is over")),
            State::Marked { heard, watched, .. }
                if heard.elapsed() < silence && !watched.as_ref().is_some_and(|watched| watched.is_left(unwatched)) =>
            {
                return Err(Status::unavailable("a collection is under way; try again when it is over"));
            }
            _ => {}
        }
        *state = State::Marking;
        Ok(())
    }

    /// Puts the mark's result in force; without one the place is free again. `watched`: its collector will watch it.
    pub(crate) fn marked(&self, round: Option<Round>, watched: bool) {
        let mut state = self.state();
        *state = match round {
            Some(round) => State::Marked {
                round: Box::new(round),
                heard: Instant::now(),
                watched: watched.then(|| Watched { watchers: 0, left: Instant::now() }),
            },
            None => {
                self.barrier.lower();
                State::Idle
            }
        };
    }

    /// Works with the round of this id.
    pub(crate) fn with<R>(&self, id: &str, work: impl FnOnce(&mut Round) -> Result<R, Status>) -> Result<R, Status> {
        let mut state = self.state();
        match &mut *state {
            State::Marked { round, heard, .. } if round.id == id => {
                *heard = Instant::now();
                work(round)
            }
            _ => Err(no_mark(id)),
        }
    }

    /// Its collector is there.
    pub(crate) fn watch(&self, id: &str) -> Result<Watcher<'_>, Status> {
        self.watchers(id, |watched| watched.watchers += 1).ok_or_else(|| no_mark(id))?;
        Ok(Watcher { collection: self, id: id.to_owned() })
    }

    fn watchers(&self, id: &str, change: impl FnOnce(&mut Watched)) -> Option<()> {
        match &mut *self.state() {
            State::Marked { round, watched, .. } if round.id == id => watched.as_mut().map(change),
            _ => None,
        }
    }

    /// Ends the round of this id; another one, or none, stays as it is.
    pub(crate) fn end(&self, id: &str) {
        let mut state = self.state();
        if matches!(&*state, State::Marked { round, .. } if round.id == id) {
            *state = State::Idle;
            self.barrier.lower();
        }
    }
}

fn no_mark(id: &str) -> Status {
    Status::failed_precondition(format!("there is no completed mark {id:?}; mark again"))
}
