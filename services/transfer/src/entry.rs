//! A pull that is known here: what is asked of it, who waits for it, and what they see.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use berth_model::Status;
use berth_wire::{
    fetcher::Access,
    metadata::{PullRecord, pull_record::State},
    transfer::{PullSummary, pull_state::Phase},
    types,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    ahead::Ahead,
    board::{Board, News, is_over},
    wish::{Wish, between, has_credentials, weight},
};

/// More watchers of one pull are not told apart from strangers.
const MAX_WATCHERS: usize = 1000;

pub(crate) struct Entry {
    pub(crate) wish: Wish,
    /// As it was last written.
    pub(crate) record: PullRecord,
    pub(crate) board: Arc<Board>,
    pub(crate) cancel: CancellationToken,
    pub(crate) weight: Arc<AtomicU32>,
    /// Whether the record is on disk, or why it is not.
    pub(crate) stored: watch::Sender<Option<Result<(), Status>>>,
    /// An interrupted one goes on once this says so.
    pub(crate) roused: watch::Sender<bool>,
    /// It was begun with credentials, and they are not known here.
    pub(crate) lacks_credentials: bool,
    pub(crate) ended: Option<Instant>,
    /// What the registry was asked before the pull began its work.
    pub(crate) ahead: Option<Ahead>,
    /// The context of its trace, for those who join.
    pub(crate) trace: Vec<(String, String)>,
    watchers: HashMap<String, Instant>,
    last_seen: Instant,
    since: Instant,
}

impl Entry {
    /// One that begins here.
    pub(crate) fn begun(wish: Wish, record: PullRecord, news: News) -> Self {
        Self {
            board: Arc::new(Board::new(&record, news)),
            weight: Arc::new(AtomicU32::new(weight(record.priority()))),
            wish,
            record,
            cancel: CancellationToken::new(),
            stored: watch::Sender::new(None),
            roused: watch::Sender::new(true),
            lacks_credentials: false,
            ended: None,
            ahead: None,
            trace: Vec::new(),
            watchers: HashMap::new(),
            last_seen: Instant::now(),
            since: Instant::now(),
        }
    }

    /// One that was interrupted, or is over.
    pub(crate) fn found(record: PullRecord, news: News) -> Result<Self, Status> {
        let wish = Wish::of_record(&record)?;
        let over = record.state() != State::Running;
        let mut entry = Self::begun(wish, record, news);
        entry.lacks_credentials = entry.record.with_credentials;
        entry.stored.send_replace(Some(Ok(())));
        entry.roused.send_replace(over);
        entry.ended = over.then(Instant::now);
        Ok(entry)
    }

    /// Whether this pull does what `wish` asks. Somebody else's credentials are not borrowed; but an interrupted pull that
    /// needs some takes those of whoever asks for the same.
    pub(crate) fn serves(&self, wish: &Wish) -> bool {
        let same_access =
            if self.lacks_credentials { has_credentials(&wish.access) } else { self.wish.access == wish.access };
        self.ended.is_none() && !self.cancel.is_cancelled() && same_access && self.wish.is_like(wish)
    }

    /// Somebody waits from now on, or says so again.
    pub(crate) fn watched_by(&mut self, watcher: &str) {
        if watcher.is_empty() {
            return;
        }
        self.last_seen = Instant::now();
        if self.watchers.len() < MAX_WATCHERS || self.watchers.contains_key(watcher) {
            self.watchers.insert(watcher.to_owned(), Instant::now());
        }
        if !self.lacks_credentials {
            self.roused.send_replace(true);
        }
    }

    /// Says again that somebody waits, if that one did not leave meanwhile.
    pub(crate) fn still_watched_by(&mut self, watcher: &str) {
        if let Some(heard) = self.watchers.get_mut(watcher) {
            *heard = Instant::now();
            self.last_seen = *heard;
        }
    }

    /// Credentials for one that lacks them.
    pub(crate) fn give(&mut self, access: &Access) {
        if self.lacks_credentials && has_credentials(access) {
            self.wish.access = access.clone();
            self.lacks_credentials = false;
        }
    }

    /// Somebody leaves. `true`: that was the last one, and the pull is to be cancelled. In the first moments after an
    /// interruption it is not: the others may be on their way back, and if not, the silence ends it.
    pub(crate) fn left_by(&mut self, watcher: &str, silence: Duration) -> bool {
        let left = self.watchers.remove(watcher).is_some();
        self.watchers.retain(|_, heard| heard.elapsed() < silence);
        let settled = self.record.starts <= 1 || self.since.elapsed() > silence;
        left && settled && self.watchers.is_empty() && !self.record.detached && !is_over(&self.board.state())
    }

    /// How long nobody was heard; nothing for one that needs nobody.
    pub(crate) fn unheard_for(&self) -> Option<Duration> {
        (!self.record.detached).then(|| self.last_seen.elapsed())
    }

    /// Whether it was interrupted and does not go on yet.
    pub(crate) fn is_dormant(&self) -> bool {
        self.ended.is_none() && !*self.roused.borrow()
    }

    /// When it must end by.
    pub(crate) fn left_until_deadline(&self) -> Option<Duration> {
        self.record.deadline.map(|deadline| between(types::Time::now(), deadline))
    }

    pub(crate) fn take_priority(&mut self, record: PullRecord) {
        self.weight.store(weight(record.priority()), Ordering::Relaxed);
        self.record = record;
    }

    /// In few words.
    pub(crate) fn summary(&self) -> PullSummary {
        let mut record = self.record.clone();
        if self.ended.is_none() && !self.is_dormant() {
            record.progress = Some(self.board.progress());
            record.target = self.board.current_target().or(record.target);
        }
        let phase = self.board.current_phase();
        summary(record, phase, self.is_dormant(), self.watchers.len())
    }
}

/// A record in few words; `phase` counts for one that runs.
pub(crate) fn summary(mut record: PullRecord, phase: Phase, interrupted: bool, watchers: usize) -> PullSummary {
    if let Some(verdict) = &mut record.verdict {
        verdict.steps.clear();
    }
    let until = record.ended_at.unwrap_or_else(types::Time::now);
    let age = record.created_at.map_or(Duration::ZERO, |created| between(created, until));
    let phase = match record.state() {
        State::Running => phase,
        State::Done => Phase::Done,
        State::Failed => Phase::Failed,
    };
    PullSummary {
        record: Some(record),
        phase: phase.into(),
        interrupted,
        watchers: u32::try_from(watchers).unwrap_or(u32::MAX),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    }
}
