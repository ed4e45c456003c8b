//! One change: what it writes and what it reports go into one batch.

use berth_kv::Txn;
use berth_model::{Status, labels::Labels};
use berth_wire::{metadata as msg, types};

use crate::{
    collection::{Barrier, Node},
    event::Fact,
    fences::Fence,
    tables::{meta, namespace, outbox},
};

/// Old events dropped with each change, beyond the number it adds. Small, so that no change pays for many.
const DROPPED_AT_ONCE: u64 = 16;
/// Namespaces a store may have: each change that makes one counts them.
const MAX_NAMESPACES: usize = 5000;

/// The batch of one change, with what it will report.
pub(crate) struct Change<'a, 'db> {
    txn: &'a mut Txn<'db>,
    now: types::Time,
    barrier: &'a Barrier,
    /// Sequence and, unless given, the moment are filled in at the end.
    events: Vec<msg::Event>,
    frees: bool,
}

/// Which events stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// How many of the newest.
    pub(crate) newest: u64,
    /// And all after this one, which was the last to be relayed.
    pub(crate) relayed: u64,
}

impl<'a, 'db> Change<'a, 'db> {
    pub(crate) fn new(txn: &'a mut Txn<'db>, now: types::Time, barrier: &'a Barrier) -> Self {
        Self { txn, now, barrier, events: Vec::new(), frees: false }
    }

    /// Says that a record is written, or newly leased: a mark that is in force must keep it.
    pub(crate) fn keeps(&self, node: impl FnOnce() -> Option<Node>) {
        self.barrier.note(node);
    }

    /// Whether a test took this fence away.
    pub(crate) fn lacks(&self, fence: Fence) -> bool {
        self.barrier.lacks(fence)
    }

    /// Says that something may have lost what kept it.
    pub(crate) fn frees(&mut self) {
        self.frees = true;
    }

    /// Whether anything said so.
    pub(crate) fn freed(&self) -> bool {
        self.frees
    }

    /// What the rules read and write. What one writes, the next reads.
    pub(crate) fn txn(&mut self) -> &mut Txn<'db> {
        self.txn
    }

    /// The one moment of this change.
    pub(crate) fn now(&self) -> types::Time {
        self.now
    }

    /// Adds an event.
    pub(crate) fn report(&mut self, namespace: &str, fact: &Fact) {
        let (namespace, topic) = (namespace.to_owned(), fact.topic().to_owned());
        self.events.push(msg::Event { namespace, topic, json: fact.json(), ..msg::Event::default() });
    }

    /// Adds an event of somebody else, as it is.
    pub(crate) fn pass_on(&mut self, event: msg::Event) {
        self.events.push(event);
    }

    /// Makes the namespace known: it comes into being with the first thing in it.
    pub(crate) fn touch_namespace(&mut self, name: &str) -> Result<(), Status> {
        if namespace::is_known(self.txn, name)? {
            return Ok(());
        }
        if namespace::count(self.txn)? >= MAX_NAMESPACES {
            return Err(Status::resource_exhausted(format!(
                "namespace {name:?} would be the {MAX_NAMESPACES}th and more are not kept; use one that is there"
            )));
        }
        namespace::put(self.txn, name, &Labels::new());
        Ok(())
    }

    /// Numbers the events, adds them to the outbox, and drops old ones. Answers the last sequence, if it has grown.
    ///
    /// Dropping here, a few with each change, needs no task of its own, no extra flush, and keeps pace by itself: each
    /// change drops more than it adds.
    pub(crate) fn finish(self, retention: Retention, traceparent: &str) -> Result<Option<u64>, Status> {
        let Self { txn, now, events, .. } = self;
        if events.is_empty() {
            return Ok(None);
        }
        let added = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let mut sequence = meta::last_event(txn)?;
        for event in events {
            sequence += 1;
            let traceparent = traceparent.to_owned();
            outbox::put(txn, &msg::Event { sequence, at: event.at.or(Some(now)), traceparent, ..event });
        }
        meta::set_last_event(txn, sequence);
        let first = meta::first_event(txn)?;
        let keep_from = retention.keep_from(first, sequence, added);
        for dropped in first..keep_from {
            outbox::delete(txn, dropped);
        }
        if keep_from > first {
            meta::set_first_event(txn, keep_from);
        }
        Ok(Some(sequence))
    }
}

impl Retention {
    /// The first event that stays, given the first there is, the last there is, and how many the change added.
    fn keep_from(self, first: u64, last: u64, added: u64) -> u64 {
        let wanted = (last + 1).saturating_sub(self.newest).min(self.relayed.saturating_add(1));
        wanted.clamp(first, first + added + DROPPED_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_as_a_table() {
        const ALL: u64 = u64::MAX;
        for (newest, relayed, first, last, added, expected) in [
            (10, ALL, 1, 10, 1, 1),      // not more than wanted
            (10, ALL, 1, 11, 1, 2),      // one too many
            (10, ALL, 1, 500, 1, 18),    // a few at a time
            (10, 0, 1, 500, 1, 1),       // none was relayed
            (10, 3, 1, 500, 1, 4),       // some were
            (10, 499, 480, 500, 1, 491), // relayed up to the last but one
            (10, 3, 8, 500, 1, 8),       // those were dropped before there was a relay
            (0, ALL, 1, 3, 3, 4),        // nothing is kept
        ] {
            let found = Retention { newest, relayed }.keep_from(first, last, added);
            assert_eq!(found, expected, "newest {newest} relayed {relayed} first {first} last {last}");
        }
    }
}
