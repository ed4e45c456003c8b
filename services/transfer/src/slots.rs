//! Places for jobs in flight, given out by a [`Scheduler`]; and which of equal jobs is under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{oneshot, watch};

use crate::scheduler::Scheduler;

/// Places of one kind, for all pulls together.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Mutex<Scheduler<oneshot::Sender<Slot>>>>);

impl Slots {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Scheduler::new(limit))))
    }

    fn lock(&self) -> MutexGuard<'_, Scheduler<oneshot::Sender<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for a job of this pull. Who stops waiting loses nothing but its turn.
    pub(crate) async fn take(&self, pull: &str, weight: u32) -> Slot {
        loop {
            let (give, given) = oneshot::channel();
            self.lock().enter(pull, weight, give);
            self.hand_out();
            // Not given only if it was dropped unseen; then it waits anew.
            if let Ok(slot) = given.await {
                return slot;
            }
        }
    }

    fn hand_out(&self) {
        loop {
            let next = self.lock().next(|waiter| !waiter.is_closed());
            let Some((pull, waiter)) = next else { return };
            // One that went away in this instant gives it back by dropping it.
            drop(waiter.send(Slot { slots: self.clone(), pull }));
        }
    }
}

/// A place; given back when dropped.
pub(crate) struct Slot {
    slots: Slots,
    pull: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().leave(&self.pull);
        self.slots.hand_out();
    }
}

/// How far the one job is that is under way for a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) offset: u64,
    /// It ended well.
    pub(crate) done: bool,
}

/// The jobs under way, by key: equal ones need no places of their own.
#[derive(Clone, Default)]
pub(crate) struct Equals(Arc<Mutex<HashMap<String, watch::Sender<UnderWay>>>>);

impl Equals {
    /// The first of equal jobs goes; the others get to see it.
    pub(crate) fn begin(&self, key: &str) -> Result<Leading, watch::Receiver<UnderWay>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = all.get(key) {
            return Err(present.subscribe());
        }
        let sender = watch::Sender::new(UnderWay::default());
        all.insert(key.to_owned(), sender.clone());
        Ok(Leading { equals: self.clone(), key: key.to_owned(), sender })
    }

    /// The equal job that is under way.
    pub(crate) fn present(&self, key: &str) -> Option<watch::Receiver<UnderWay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(watch::Sender::subscribe)
    }
}

/// Held by the job that is under way. When it is dropped, those who wait for it go on.
pub(crate) struct Leading {
    equals: Equals,
    key: String,
    sender: watch::Sender<UnderWay>,
}

impl Leading {
    pub(crate) fn tell(&self, offset: u64) {
        self.sender.send_modify(|under_way| under_way.offset = offset);
    }

    pub(crate) fn done(&self) {
        self.sender.send_modify(|under_way| under_way.done = true);
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.equals.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_place_comes_back_also_from_who_stopped_waiting() {
        let slots = Slots::new(1);
        let first = slots.take("a", 1).await;
        let mut waits = Box::pin(slots.take("b", 1));
        let mut gives_up = Box::pin(slots.take("c", 1));
        assert!((&mut waits).now_or_never().is_none() && (&mut gives_up).now_or_never().is_none());
        drop(gives_up);
        drop(first);
        let second = waits.await;
        let mut third = Box::pin(slots.take("c", 1));
        assert!((&mut third).now_or_never().is_none());
        // Given to it, and never taken.
        drop(second);
        drop(third);
        assert!(slots.take("d", 1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn equal_jobs_see_the_one_under_way() {
        let equals = Equals::default();
        let leading = equals.begin("k").ok().unwrap();
        let mut seen = equals.begin("k").err().unwrap();
        leading.tell(7);
        seen.changed().await.unwrap();
        assert_eq!(seen.borrow_and_update().offset, 7);
        leading.done();
        drop(leading);
        assert!(seen.wait_for(|under_way| under_way.done).await.is_ok());
        while seen.changed().await.is_ok() {}
        assert!(equals.begin("k").is_ok(), "the next one goes");
    }
}
