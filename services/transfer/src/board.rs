//! What watchers of a pull see: its whole state, with a version that grows with each change, also over restarts.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_model::{Descriptor, Status};
use berth_wire::{
    metadata::{PullProgress, PullRecord, Verdict, pull_record},
    transfer::{
        PullState,
        pull_state::{Item, Phase, item::Stage},
    },
    types,
};
use tokio::sync::watch;

use crate::{ledger::Ledger, wish::between};

/// Changes of bytes are shown at most so often; the end of a pull is shown at once.
const SHOW_EVERY: Duration = Duration::from_millis(50);
/// All pulls together are more to look at.
const SHOW_ALL_EVERY: Duration = Duration::from_millis(250);

pub(crate) struct Board {
    state: Mutex<PullState>,
    version: watch::Sender<u64>,
    started: Instant,
    /// Before that, in milliseconds: a pull that was taken up again is older.
    before: u64,
    /// Of all boards together.
    news: News,
    /// Where its time goes.
    pub(crate) ledger: Ledger,
}

/// Grows with each change of any pull.
#[derive(Clone)]
pub(crate) struct News(std::sync::Arc<watch::Sender<u64>>);

impl Default for News {
    fn default() -> Self {
        Self(std::sync::Arc::new(watch::Sender::new(first_version())))
    }
}

impl News {
    pub(crate) fn tell(&self) {
        self.0.send_modify(|version| *version += 1);
    }

    /// The version once it is newer than `seen`, or after `wait`.
    pub(crate) async fn after(&self, seen: u64, wait: Duration) -> u64 {
        let mut version = self.0.subscribe();
        let newer = tokio::time::timeout(wait, version.wait_for(|version| *version > seen)).await.is_ok();
        if newer && seen > 0 {
            // The changes of a moment together.
            tokio::time::sleep(SHOW_ALL_EVERY).await;
        }
        *version.borrow()
    }
}

/// Where versions begin: above those of before a restart, unless a pull changed more than once in a millisecond all along.
fn first_version() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(1)
}

impl Board {
    /// The board of a pull by its record, also of one that is over.
    pub(crate) fn new(record: &PullRecord, news: News) -> Self {
        let created = record.created_at.unwrap_or_else(types::Time::now);
        let before = between(created, record.ended_at.unwrap_or_else(types::Time::now));
        let before = u64::try_from(before.as_millis()).unwrap_or(u64::MAX);
        let version = first_version();
        let mut state = PullState {
            pull_id: record.id.clone(),
            version,
            reference: record.reference.clone(),
            started_at: Some(created),
            elapsed_ms: before,
            target: record.target.clone(),
            code: record.code,
            message: record.message.clone(),
            chain_ids: record.chain_ids.clone(),
            verdict: record.verdict.clone(),
            ..PullState::default()
        };
        state.set_phase(match record.state() {
            pull_record::State::Running => Phase::Resolving,
            pull_record::State::Done => Phase::Done,
            pull_record::State::Failed => Phase::Failed,
        });
        Self {
            state: Mutex::new(state),
            version: watch::Sender::new(version),
            started: Instant::now(),
            before,
            news,
            ledger: Ledger::new(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.before.saturating_add(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, PullState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut PullState)) {
        let version = {
            let mut state = self.lock();
            change(&mut state);
            state.version += 1;
            state.elapsed_ms = self.elapsed_ms();
            state.version
        };
        self.version.send_replace(version);
        self.news.tell();
    }

    /// The state now.
    pub(crate) fn state(&self) -> PullState {
        let mut state = self.lock().clone();
        if !is_over(&state) {
            state.elapsed_ms = self.elapsed_ms();
        }
        state
    }

    /// How far it is, in few numbers.
    pub(crate) fn progress(&self) -> PullProgress {
        let state = self.lock();
        let mut progress = PullProgress::default();
        for item in &state.items {
            let size = item.descriptor.as_ref().map_or(0, |descriptor| descriptor.size);
            progress.blobs += 1;
            progress.blobs_done += u32::from(matches!(item.stage(), Stage::Done | Stage::Exists));
            progress.total += size;
            progress.offset += item.offset.min(size);
            progress.unpacked += item.unpacked.min(size);
            progress.fetched += item.fetched;
        }
        progress
    }

    pub(crate) fn current_phase(&self) -> Phase {
        self.lock().phase()
    }

    pub(crate) fn current_target(&self) -> Option<types::Descriptor> {
        self.lock().target.clone()
    }

    /// What it is at, for a person.
    pub(crate) fn stage(&self) -> String {
        let state = self.lock();
        match state.phase() {
            Phase::Resolving => "it was resolving the reference".to_owned(),
            Phase::Recording => "it was writing its records".to_owned(),
            Phase::Done | Phase::Failed => "it was over".to_owned(),
            Phase::Pulling => {
                let (mut fetching, mut unpacking, mut offset, mut total) = (0, 0, 0, 0);
                for item in &state.items {
                    fetching += usize::from(matches!(item.stage(), Stage::Waiting | Stage::Downloading));
                    unpacking += usize::from(item.stage() == Stage::Unpacking);
                    offset += item.offset;
                    total += item.descriptor.as_ref().map_or(0, |descriptor| descriptor.size);
                }
                let what = if fetching > 0 { "fetching" } else { "unpacking" };
                format!(
                    "it was {what}, with {fetching} of {} blobs to fetch, {unpacking} to unpack, and {offset} of {total} \
                     bytes there",
                    state.items.len()
                )
            }
        }
    }

    /// Ends when the pull is over.
    pub(crate) async fn over(&self) {
        let mut version = self.version.subscribe();
        // The sender lives in `self`: it cannot be gone.
        drop(version.wait_for(|_| is_over(&self.lock())).await);
    }

    /// The state once it is newer than `seen`, or after `wait`.
    pub(crate) async fn news(&self, seen: u64, wait: Duration) -> PullState {
        let deadline = tokio::time::Instant::now() + wait;
        let mut version = self.version.subscribe();
        let newer = tokio::time::timeout_at(deadline, version.wait_for(|version| *version > seen)).await.is_ok();
        if newer && seen > 0 && !is_over(&self.lock()) {
            // Gather the changes of a moment; the end cuts it short.
            let settle = tokio::time::Instant::now() + SHOW_EVERY;
            while let Ok(Ok(())) = tokio::time::timeout_at(settle, version.changed()).await {
                if is_over(&self.lock()) {
                    break;
                }
            }
        }
        self.state()
    }

    /// Where its time went; told before its end is.
    pub(crate) fn verdict(&self, verdict: Verdict) {
        self.change(|state| state.verdict = Some(verdict));
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.change(|state| state.set_phase(phase));
    }

    pub(crate) fn target(&self, target: &Descriptor) {
        self.change(|state| state.target = Some(target.into()));
    }

    /// Adds a line for a blob, once.
    pub(crate) fn add(&self, descriptor: &Descriptor) {
        self.change(|state| {
            if find(state, descriptor).is_none() {
                state.items.push(Item {
                    descriptor: Some(descriptor.into()),
                    kind: descriptor.media_type.kind().as_str().to_owned(),
                    ..Item::default()
                });
            }
        });
    }

    pub(crate) fn item(&self, descriptor: &Descriptor, change: impl FnOnce(&mut Item)) {
        self.change(|state| {
            if let Some(item) = find(state, descriptor) {
                change(item);
            }
        });
    }

    pub(crate) fn done(&self, chain_ids: Vec<String>) {
        self.change(|state| {
            state.chain_ids = chain_ids;
            for item in &mut state.items {
                if item.stage() != Stage::Exists {
                    item.set_stage(Stage::Done);
                }
            }
            state.set_phase(Phase::Done);
        });
    }

    pub(crate) fn failed(&self, status: &Status) {
        self.change(|state| {
            state.code = status.code.number();
            state.message.clone_from(&status.message);
            state.set_phase(Phase::Failed);
        });
    }
}

fn find<'a>(state: &'a mut PullState, descriptor: &Descriptor) -> Option<&'a mut Item> {
    let digest = descriptor.digest.to_string();
    state.items.iter_mut().find(|item| item.descriptor.as_ref().is_some_and(|known| known.digest == digest))
}

pub(crate) fn is_over(state: &PullState) -> bool {
    matches!(state.phase(), Phase::Done | Phase::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_watcher_sees_everything_and_the_end_comes_at_once() {
        let board = Board::new(&PullRecord::default(), News::default());
        let layer = Descriptor::new("application/vnd.oci.image.layer.v1.tar", berth_model::Digest::of(b"x"), 7);
        board.add(&layer);
        board.add(&layer);
        board.item(&layer, |item| item.offset = 3);
        let state = board.news(0, Duration::from_secs(60)).await;
        assert_eq!((state.items.len(), state.items[0].offset, state.items[0].kind.as_str()), (1, 3, "layer"));
        let seen = state.version;
        assert_eq!(board.news(seen, Duration::ZERO).await.version, seen, "no news within the wait");
        board.done(vec![]);
        let last = board.news(seen, Duration::from_secs(60)).await;
        assert!(is_over(&last) && last.items[0].stage() == Stage::Done);
    }
}
