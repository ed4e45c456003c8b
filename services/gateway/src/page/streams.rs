//! The page's streams of events (HTML, "Server-sent events"): what is now, and then whatever changes.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use berth_model::Status;
use berth_wire::{
    metadata::ReadEventsRequest,
    transfer::{WatchPullRequest, WatchPullsRequest, pull_state::Phase},
};
use futures::{Stream, stream::unfold};
use serde_json::{Value, json};

use super::{api::Of, shapes};
use crate::{Backend, pull_shape, readers::Place};

/// How long one poll waits.
const WAIT_MS: u32 = 10_000;
/// After a service did not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// Events read at once.
const PAGE: u32 = 200;

fn message(name: &str, value: &Value) -> Result<Event, Infallible> {
    Ok(Event::default().event(name).data(value.to_string()))
}

/// The error is told, and the stream goes on: whoever shows it says so until the next news.
async fn trouble(status: &Status) -> Result<Event, Infallible> {
    tokio::time::sleep(PAUSE).await;
    message("trouble", &json!({ "code": status.code, "message": status.message }))
}

fn stream(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// All pulls that run, and those that ended a moment ago.
pub(super) async fn pulls(
    State(backend): State<Backend>,
    Query(of): Query<Of>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let request = WatchPullsRequest { namespace: of.namespace, wait_ms: WAIT_MS, ..WatchPullsRequest::default() };
    stream(unfold((backend, request), |(backend, mut request)| async move {
        loop {
            let polled = backend.stopping.run_until_cancelled(backend.transfer.watch_pulls(request.clone())).await?;
            match polled {
                Ok(reply) if reply.version == request.seen => {}
                Ok(reply) => {
                    request.seen = reply.version;
                    let pulls: Vec<Value> = reply.pulls.iter().map(shapes::pull).collect();
                    let told = message("pulls", &json!({ "pulls": pulls, "more": reply.more }));
                    return Some((told, (backend, request)));
                }
                Err(status) => {
                    request.seen = 0;
                    return Some((trouble(&status).await, (backend, request)));
                }
            }
        }
    }))
}

/// One pull, to its end.
pub(super) async fn pull(
    State(backend): State<Backend>,
    Path(pull_id): Path<String>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let request = WatchPullRequest { pull_id, wait_ms: WAIT_MS, ..WatchPullRequest::default() };
    stream(unfold((backend, request, false), |(backend, mut request, over)| async move {
        if over {
            return None;
        }
        loop {
            let polled = backend.stopping.run_until_cancelled(backend.transfer.watch_pull(request.clone())).await?;
            match polled {
                Ok(state) if state.version == request.seen => {}
                Ok(state) => {
                    request.seen = state.version;
                    let over = matches!(state.phase(), Phase::Done | Phase::Failed);
                    return Some((message("pull", &pull_shape::pull(&state)), (backend, request, over)));
                }
                Err(status) => {
                    let over = !status.code.is_passing();
                    return Some((trouble(&status).await, (backend, request, over)));
                }
            }
        }
    }))
}

/// Where to begin: after the one a browser saw last, after `since`, or with what happens from now on.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct From {
    #[serde(default)]
    namespace: String,
    since: Option<u64>,
}

struct Reading {
    backend: Backend,
    namespace: String,
    after: Option<u64>,
    ready: VecDeque<berth_wire::metadata::Event>,
    place: Option<Place>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Event, Infallible>> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.place.get_or_insert_with(|| Place::new("page", event.sequence)).at(event.sequence);
                if self.namespace.is_empty() || self.namespace == event.namespace {
                    let told = Event::default().event("event").id(event.sequence.to_string());
                    return Some(Ok(told.data(shapes::event(&event).to_string())));
                }
            }
            let after = self.after.unwrap_or(u64::MAX);
            let request = ReadEventsRequest { after, limit: PAGE, wait_ms: WAIT_MS };
            let read = self.backend.metadata.read_events(request);
            match self.backend.stopping.run_until_cancelled(read).await? {
                Ok(page) => {
                    self.after = Some(
                        page.events.last().map_or_else(|| self.after.unwrap_or(page.last), |event| event.sequence),
                    );
                    self.ready = page.events.into();
                }
                Err(status) => {
                    if status.code == berth_model::Code::OutOfRange {
                        // Those are not kept any more.
                        self.after = None;
                    }
                    return Some(trouble(&status).await);
                }
            }
        }
    }
}

/// Everything that happens.
pub(super) async fn events(
    State(backend): State<Backend>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = seen.or(from.since);
    let reading = Reading { backend, namespace: from.namespace, after, ready: VecDeque::new(), place: None };
    stream(unfold(reading, |mut reading| async move {
        let next = reading.next().await?;
        Some((next, reading))
    }))
}
