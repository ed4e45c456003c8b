//! Whose bytes are written next, when more arrive than the processors and the disk take.
//!
//! The end of a pull waits for its largest layer: all of it must arrive before the last of it can be unpacked. So every other
//! turn is for whoever has most left to fetch, and the others go round, so that nobody waits for ever. When the network is
//! what is slow there is a place for nearly all at once, and nobody waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Places to write in.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The next turn is for who has most left.
    largest: bool,
    /// Those who wait, the longest first; not more than there are downloads.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    left: u64,
    give: oneshot::Sender<Turn>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Turn(Turns);

impl Queue {
    /// Who gets a place that was given back.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.waiting.retain(|waiting| !waiting.give.is_closed());
        let most = || self.waiting.iter().enumerate().max_by_key(|(_, waiting)| waiting.left).map(|(at, _)| at);
        let at = if self.largest { most()? } else { 0 };
        self.largest = !self.largest;
        (at < self.waiting.len()).then(|| self.waiting.remove(at).give)
    }
}

impl Default for Turns {
    /// One place for each four processors: to write is to copy, and most of them are needed for what comes after it.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new(processors / 4)
    }
}

impl Turns {
    fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue { free: places.max(1), largest: true, waiting: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, for a download that has so many bytes left. Who stops waiting loses nothing.
    pub async fn take(&self, left: u64) -> Turn {
        loop {
            let given = {
                let mut queue = self.lock();
                if queue.free > 0 {
                    queue.free -= 1;
                    return Turn(self.clone());
                }
                let (give, given) = oneshot::channel();
                queue.waiting.push(Waiting { left, give });
                given
            };
            // Not given only if it was dropped unseen; then it waits anew.
            if let Ok(turn) = given.await {
                return turn;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        let next = queue.next();
        if next.is_none() {
            queue.free += 1;
        }
        drop(queue);
        if let Some(next) = next {
            // One that went away in this instant gives it back by dropping it.
            drop(next.send(Turn(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_largest_and_the_one_who_waited_longest_come_in_turn() {
        let turns = Turns::new(1);
        let first = turns.take(1).await;
        let mut waiting: Vec<_> = [5, 7, 9, 8].into_iter().map(|left| Some(Box::pin(turns.take(left)))).collect();
        assert!(waiting.iter_mut().flatten().all(|one| one.now_or_never().is_none()));
        let mut turn = first;
        for next in [2, 0, 3, 1] {
            drop(turn);
            let mut given: Vec<(usize, Turn)> = Vec::new();
            for (at, one) in waiting.iter_mut().enumerate() {
                given.extend(one.as_mut().and_then(|one| one.now_or_never()).map(|turn| (at, turn)));
            }
            assert_eq!(given.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [next]);
            waiting[next] = None;
            turn = given.remove(0).1;
        }
    }

    #[tokio::test]
    async fn who_stops_waiting_takes_nothing_along() {
        let turns = Turns::new(1);
        let first = turns.take(1).await;
        let mut unseen = Box::pin(turns.take(9));
        assert!((&mut unseen).now_or_never().is_none());
        let mut gives_up = Box::pin(turns.take(8));
        assert!((&mut gives_up).now_or_never().is_none());
        drop(gives_up);
        drop(first);
        // It was given a place and never looked.
        drop(unseen);
        let third = turns.take(3).now_or_never();
        assert!(third.is_some());
        drop(third);
        assert_eq!(turns.lock().free, 1);
    }
}
