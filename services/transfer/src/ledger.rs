//! What a pull and each of its blobs were at, and when: kept while it runs, judged when it is over.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_model::{Descriptor, Digest};
use berth_wire::{fetcher::FetchOutcome, unpacker::UnpackOutcome};

/// More steps than this are not kept: what a person can look at.
const MOST: usize = 2000;

/// What is done in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Check,
    Resolve,
    FetchTurn,
    Fetch,
    UnpackTurn,
    Unpack,
    Commit,
    Record,
}

impl What {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Resolve => "resolve",
            Self::FetchTurn => "fetch turn",
            Self::Fetch => "fetch",
            Self::UnpackTurn => "unpack turn",
            Self::Unpack => "unpack",
            Self::Commit => "commit",
            Self::Record => "record",
        }
    }
}

/// One step. Times are since the pull was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The blob; `None` for the pull.
    pub(crate) subject: Option<Digest>,
    pub(crate) what: What,
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

/// All that is known of a pull's time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) total: Duration,
    pub(crate) steps: Vec<Step>,
    /// What a fetch or an unpacking says of itself, in microseconds.
    pub(crate) spent: BTreeMap<(Digest, What), BTreeMap<String, u64>>,
    pub(crate) retries: BTreeMap<String, u64>,
    pub(crate) retried_hosts: BTreeMap<String, u64>,
    pub(crate) from_registry: u64,
    pub(crate) present: u64,
    pub(crate) from_other_pulls: u64,
}

/// Takes down.
pub(crate) struct Ledger {
    begun: Instant,
    facts: Mutex<Facts>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), facts: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was taken down so far.
    pub(crate) fn facts(&self) -> Facts {
        Facts { total: self.begun.elapsed(), ..self.lock().clone() }
    }

    /// Takes down what `work` is, and how long it takes; also if it is dropped on the way.
    pub(crate) async fn step<F: Future>(&self, subject: Option<Digest>, what: What, work: F) -> F::Output {
        let _taking = Taking { ledger: self, subject, what, begin: self.begun.elapsed() };
        work.await
    }

    /// What came of a fetch.
    pub(crate) fn fetched(&self, blob: &Descriptor, outcome: &FetchOutcome, by_another: bool) {
        let mut facts = self.lock();
        for (cause, times) in &outcome.retries {
            *facts.retries.entry(cause.clone()).or_default() += times;
        }
        for (host, times) in &outcome.retried_hosts {
            *facts.retried_hosts.entry(host.clone()).or_default() += times;
        }
        facts.from_registry += outcome.fetched;
        let rest = blob.size.saturating_sub(outcome.fetched);
        // What another pull of ours brought is there when our own job looks.
        if outcome.existed && !by_another {
            facts.present += blob.size;
        } else {
            facts.from_other_pulls += rest;
        }
        facts.spent.insert((blob.digest, What::Fetch), outcome.spent_us.clone());
    }

    /// What came of an unpacking.
    pub(crate) fn unpacked(&self, blob: &Descriptor, outcome: &UnpackOutcome) {
        self.lock().spent.insert((blob.digest, What::Unpack), outcome.spent_us.clone());
    }
}

/// A step that is not over.
struct Taking<'a> {
    ledger: &'a Ledger,
    subject: Option<Digest>,
    what: What,
    begin: Duration,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let step = Step { subject: self.subject, what: self.what, begin: self.begin, end: self.ledger.begun.elapsed() };
        let mut facts = self.ledger.lock();
        if facts.steps.len() < MOST {
            facts.steps.push(step);
        }
    }
}
