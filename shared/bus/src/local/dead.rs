//! Dead letters in-process: a bounded list, gone with the process.

use std::collections::VecDeque;
use std::sync::Mutex;

use berth_model::Status;

use super::{Local, lock};
use crate::dead::{self, DeadLetter};

/// The letters of all kinds, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    letters: Mutex<VecDeque<DeadLetter>>,
}

impl Graveyard {
    pub(super) fn bury(&self, letter: DeadLetter) {
        let mut letters = lock(&self.letters);
        letters.push_back(letter);
        if letters.len() > dead::MOST {
            letters.pop_front();
        }
    }

    fn take(&self, id: &str) -> Result<DeadLetter, Status> {
        let mut letters = lock(&self.letters);
        let place = letters.iter().position(|letter| letter.id == id);
        place.and_then(|place| letters.remove(place)).ok_or_else(|| dead::unknown(id))
    }
}

impl Local {
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.graveyard.letters).iter().cloned().collect()
    }

    pub(crate) fn remove_dead(&self, id: &str) -> Result<(), Status> {
        self.graveyard.take(id).map(drop)
    }

    pub(crate) fn requeue(&self, id: &str) -> Result<(), Status> {
        let letter = self.graveyard.take(id)?;
        let back = letter.clone();
        self.put_back(letter).inspect_err(|_full| self.graveyard.bury(back))
    }
}
