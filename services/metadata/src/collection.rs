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
    /// A round whose collector says nothing for so long is over.
    silence: Duration,
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
    },
}

impl Collection {
    pub(crate) fn new(fences: Fences, silence: Duration) -> Self {
        Self { barrier: Arc::new(Barrier::new(fences)), state: Mutex::default(), silence }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the only place for a round.
    pub(crate) fn begin(&self) -> Result<(), Status> {
        let mut state = self.state();
        match &*state {
            State::Marking => return Err(Status::unavailable("a mark is under way; try again when it is over")),
            State::Marked { heard, .. } if heard.elapsed() < self.silence => {
                return Err(Status::unavailable("a collection is under way; try again when it is over"));
            }
            _ => {}
        }
        *state = State::Marking;
        Ok(())
    }

    /// Puts the mark's result in force; without one the place is free again.
    pub(crate) fn marked(&self, round: Option<Round>) {
        let mut state = self.state();
        *state = match round {
            Some(round) => State::Marked { round: Box::new(round), heard: Instant::now() },
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
            State::Marked { round, heard } if round.id == id => {
                *heard = Instant::now();
                work(round)
            }
            _ => Err(Status::failed_precondition(format!("there is no completed mark {id:?}; mark again"))),
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
