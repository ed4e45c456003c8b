//! What a run found and did so far, for those who watch it. Items are bounded; the summary counts all.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_model::Status;
use berth_wire::gc::{Item, ReadRunReply, Summary, item::Outcome};
use tokio::sync::watch;

/// Items kept of one run.
const MOST: usize = 1 << 16;
/// Items in one reply.
const PAGE: usize = 1000;

/// A run as it is seen from outside.
#[derive(Debug)]
pub(crate) struct Report {
    state: Mutex<State>,
    news: watch::Sender<u64>,
    begun: Instant,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    summary: Summary,
    stage: String,
    /// How it ended.
    end: Option<Result<(), Status>>,
}

impl Report {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { stage: "waiting for its turn".into(), ..State::default() };
        Arc::new(Self { state: Mutex::new(state), news: watch::Sender::new(0), begun: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state());
        self.news.send_modify(|version| *version += 1);
        result
    }

    /// Says what it does now.
    pub(crate) fn stage(&self, stage: &str) {
        tracing::debug!(stage, "gc");
        self.change(|state| stage.clone_into(&mut state.stage));
    }

    /// Adds items.
    pub(crate) fn add(&self, items: impl IntoIterator<Item = Item>) {
        self.change(|state| {
            for item in items {
                match item.outcome() {
                    Outcome::Failed => state.summary.failed += 1,
                    Outcome::Damaged => state.summary.damaged += 1,
                    Outcome::Mended => state.summary.mended += 1,
                    _ => {}
                }
                if state.items.len() < MOST {
                    state.items.push(item);
                } else {
                    state.summary.omitted += 1;
                }
            }
        });
    }

    /// Counts.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Summary)) {
        self.change(|state| count(&mut state.summary));
    }

    /// Ends it.
    pub(crate) fn end(&self, end: Result<(), Status>) {
        let took = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.change(|state| {
            state.summary.milliseconds = took;
            state.end = Some(end);
        });
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().end.is_some()
    }

    pub(crate) fn summary(&self) -> Summary {
        self.state().summary
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Result<Summary, Status> {
        let mut news = self.news.subscribe();
        // The sender lives as long as we do.
        drop(news.wait_for(|_| self.is_over()).await);
        let state = self.state();
        state.end.clone().unwrap_or(Ok(())).map(|()| state.summary)
    }

    /// What is new after so many items; waits for it.
    pub(crate) async fn read(&self, after: usize, wait: Duration) -> ReadRunReply {
        let mut news = self.news.subscribe();
        let is_news = |_: &u64| {
            let state = self.state();
            state.items.len() > after || state.end.is_some()
        };
        drop(tokio::time::timeout(wait, news.wait_for(is_news)).await);
        let state = self.state();
        let items: Vec<Item> = state.items.iter().skip(after).take(PAGE).cloned().collect();
        let all = after + items.len() >= state.items.len();
        ReadRunReply {
            items,
            over: all && state.end.is_some(),
            summary: Some(state.summary),
            error: match &state.end {
                Some(Err(status)) => status.to_string(),
                _ => String::new(),
            },
            stage: state.stage.clone(),
        }
    }
}
