//! Whose turn it is: a bounded number of jobs in flight, taken in turn from the pulls that wait, by weight. Pure.
//!
//! Each pull has a clock that moves on by `1 / weight` with each job it gets; the pull whose clock is behind is next
//! (stride scheduling). So of two pulls that always have something waiting, each gets its share of all turns, never off by
//! more than a turn, and one that has just come waits for one job to end, however many another has waiting. Who had nothing
//! to do saves nothing up.

use std::collections::{BTreeMap, VecDeque};

/// One turn of a pull of weight 1.
const TURN: u64 = 1 << 16;
/// The most a pull can weigh.
pub const MAX_WEIGHT: u32 = 1024;

/// Jobs of type `T`, that wait or are in flight.
#[derive(Debug)]
pub struct Scheduler<T> {
    limit: usize,
    in_flight: usize,
    /// The clock of the pull that got the last turn, as it was before.
    now: u64,
    turns: u64,
    pulls: BTreeMap<String, Share<T>>,
}

#[derive(Debug)]
struct Share<T> {
    clock: u64,
    /// Its last turn: of equal clocks, the one who waited longer.
    last: u64,
    step: u64,
    in_flight: usize,
    waiting: VecDeque<T>,
}

impl<T> Scheduler<T> {
    /// So many in flight at most, and at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), in_flight: 0, now: 0, turns: 0, pulls: BTreeMap::new() }
    }

    /// A job of a pull waits from now on. The weight counts from the next turn.
    pub fn enter(&mut self, pull: &str, weight: u32, job: T) {
        let now = self.now;
        let share = self.pulls.entry(pull.to_owned()).or_insert_with(|| Share {
            clock: now,
            last: 0,
            step: TURN,
            in_flight: 0,
            waiting: VecDeque::new(),
        });
        share.step = TURN / u64::from(weight.clamp(1, MAX_WEIGHT));
        if share.waiting.is_empty() {
            share.clock = share.clock.max(now);
        }
        share.waiting.push_back(job);
    }

    /// The next job to begin and whose it is, if there is room. Jobs that nobody wants any more (`wanted` says no) are
    /// dropped on the way, and cost no turn.
    pub fn next(&mut self, wanted: impl Fn(&T) -> bool) -> Option<(String, T)> {
        if self.in_flight >= self.limit {
            return None;
        }
        for share in self.pulls.values_mut() {
            while share.waiting.front().is_some_and(|job| !wanted(job)) {
                share.waiting.pop_front();
            }
        }
        let waiting = self.pulls.iter_mut().filter(|(_, share)| !share.waiting.is_empty());
        let (pull, share) = waiting.min_by_key(|(_, share)| (share.clock, share.last))?;
        let job = share.waiting.pop_front()?;
        let pull = pull.clone();
        self.now = share.clock;
        self.turns += 1;
        share.last = self.turns;
        share.clock += share.step;
        share.in_flight += 1;
        self.in_flight += 1;
        Some((pull, job))
    }

    /// A job of a pull is over.
    pub fn leave(&mut self, pull: &str) {
        if let Some(share) = self.pulls.get_mut(pull).filter(|share| share.in_flight > 0) {
            share.in_flight -= 1;
            self.in_flight -= 1;
        }
        let now = self.now;
        // Who has had more than its share is remembered until the others have had theirs.
        self.pulls.retain(|_, share| share.in_flight > 0 || !share.waiting.is_empty() || share.clock > now);
        if self.in_flight == 0 && self.pulls.values().all(|share| share.waiting.is_empty()) {
            self.pulls.clear();
        }
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests;
