//! What watchers of a pull see: its whole state, with a version that grows with each change.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_model::{Descriptor, Status};
use berth_wire::{
    transfer::{
        PullState,
        pull_state::{Item, Phase, item::Stage},
    },
    types,
};
use tokio::sync::watch;

/// Changes of bytes are shown at most so often; the end of a pull is shown at once.
const SHOW_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Board {
    state: Mutex<PullState>,
    version: watch::Sender<u64>,
    started: Instant,
}

impl Board {
    pub(crate) fn new(pull_id: &str, reference: &str) -> Self {
        let state = PullState {
            pull_id: pull_id.to_owned(),
            version: 1,
            reference: reference.to_owned(),
            started_at: Some(types::Time::now()),
            ..PullState::default()
        };
        Self { state: Mutex::new(state), version: watch::Sender::new(1), started: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, PullState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut PullState)) {
        let version = {
            let mut state = self.lock();
            change(&mut state);
            state.version += 1;
            state.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            state.version
        };
        self.version.send_replace(version);
    }

    /// The state now.
    pub(crate) fn state(&self) -> PullState {
        let mut state = self.lock().clone();
        if !is_over(&state) {
            state.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        state
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
        let board = Board::new("p", "r");
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
