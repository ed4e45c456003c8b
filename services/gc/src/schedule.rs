//! When to collect without being asked: containerd's rules, and at least once in an interval.
//!
//! A collection makes writers wait a little; so after one, the next that is not urgent waits until all of them together
//! take no more of the time than the pause threshold allows.

use std::time::{Duration, Instant};

use crate::config::Knobs;

/// What happened since the last collection, and how long they take.
#[derive(Debug)]
pub(crate) struct Schedule {
    knobs: Knobs,
    mutations: u64,
    deletions: u64,
    last_end: Option<Instant>,
    average: Duration,
    collections: u32,
}

impl Schedule {
    pub(crate) fn new(knobs: Knobs) -> Self {
        Self { knobs, mutations: 0, deletions: 0, last_end: None, average: Duration::ZERO, collections: 0 }
    }

    /// Takes note of changes.
    pub(crate) fn note(&mut self, mutations: u64, deletions: u64) {
        self.mutations += mutations;
        self.deletions += deletions;
    }

    /// A collection ended, and took so long. What came before it began is settled.
    pub(crate) fn collected(&mut self, now: Instant, took: Duration) {
        self.collections += 1;
        self.average = self.average + took / self.collections - self.average / self.collections;
        self.last_end = Some(now);
        self.mutations = 0;
        self.deletions = 0;
    }

    /// So many more changes make a collection due; `None`: no number does.
    pub(crate) fn mutations_left(&self) -> Option<u64> {
        (self.knobs.mutation_threshold > 0).then(|| self.knobs.mutation_threshold.saturating_sub(self.mutations))
    }

    /// When to collect, by what is known now; `None`: not before something happens.
    pub(crate) fn due(&self, started: Instant, now: Instant) -> Option<Instant> {
        let Some(last) = self.last_end else { return Some(started + self.knobs.startup_delay) };
        let soon = now + self.knobs.schedule_delay;
        let by_deletions = self.knobs.deletion_threshold > 0 && self.deletions >= self.knobs.deletion_threshold;
        if by_deletions {
            return Some(soon);
        }
        let wanted = (self.knobs.deletion_threshold == 0 && self.deletions > 0)
            || (self.knobs.mutation_threshold > 0 && self.mutations >= self.knobs.mutation_threshold);
        let by_changes = wanted.then(|| soon.max(last + self.pause()));
        let by_time = (self.knobs.interval > Duration::ZERO).then(|| last + self.knobs.interval);
        by_changes.into_iter().chain(by_time).min()
    }

    /// How long to leave writers alone after a collection.
    fn pause(&self) -> Duration {
        if self.knobs.pause_threshold <= 0.0 {
            return Duration::ZERO;
        }
        let average = self.average.as_secs_f64();
        Duration::try_from_secs_f64((average / self.knobs.pause_threshold - average).max(0.0))
            .unwrap_or(self.knobs.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_one(knobs: Knobs, took_ms: u64) -> (Schedule, Instant) {
        let (mut schedule, now) = (Schedule::new(knobs), Instant::now());
        schedule.collected(now, Duration::from_millis(took_ms));
        (schedule, now)
    }

    #[test]
    fn the_first_one_comes_after_the_start() {
        let started = Instant::now();
        let due = Schedule::new(Knobs::default()).due(started, started);
        assert_eq!(due, Some(started + Duration::from_millis(100)));
    }

    #[test]
    fn when_as_a_table() {
        let defaults = Knobs { interval: Duration::ZERO, ..Knobs::default() };
        // The default pause threshold: after 10 ms, leave 490 ms.
        for (knobs, mutations, deletions, expected) in [
            (defaults, 0, 0, None),
            (defaults, 99, 0, None),
            (defaults, 100, 0, Some(490)),
            (defaults, 0, 1, Some(490)),
            (Knobs { mutation_threshold: 0, ..defaults }, 10_000, 0, None),
            (Knobs { deletion_threshold: 3, ..defaults }, 0, 2, None),
            (Knobs { deletion_threshold: 3, ..defaults }, 0, 3, Some(0)),
            (Knobs { pause_threshold: 0.0, ..defaults }, 0, 1, Some(0)),
            (Knobs { pause_threshold: 0.0, schedule_delay: Duration::from_millis(7), ..defaults }, 0, 1, Some(7)),
            (Knobs { pause_threshold: 0.5, ..defaults }, 0, 1, Some(10)),
            (Knobs { interval: Duration::from_millis(300), ..defaults }, 0, 0, Some(300)),
            (Knobs { interval: Duration::from_millis(300), ..defaults }, 0, 1, Some(300)),
        ] {
            let (mut schedule, now) = after_one(knobs, 10);
            schedule.note(mutations, deletions);
            let found = schedule.due(now, now).map(|due| (due - now).as_millis());
            assert_eq!(found, expected, "{knobs:?}, {mutations} mutations, {deletions} deletions");
        }
    }

    #[test]
    fn what_was_collected_is_settled() {
        let (mut schedule, now) = after_one(Knobs { interval: Duration::ZERO, ..Knobs::default() }, 10);
        schedule.note(70, 1);
        assert_eq!(schedule.mutations_left(), Some(30));
        schedule.collected(now, Duration::from_millis(30));
        assert_eq!((schedule.due(now, now), schedule.mutations_left()), (None, Some(100)));
        assert_eq!(schedule.average, Duration::from_millis(20));
    }
}
