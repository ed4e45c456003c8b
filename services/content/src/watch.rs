//! Long polls for news of a blob or of the ingest that will become it. Who waits, waits on channels; nothing is asked
//! again and again.

use std::{sync::Arc, time::Duration};

use berth_model::{Digest, Status};
use berth_wire::{
    content::{self as msg, watch_blob_reply::State as Stage},
    convert,
};
use tokio::time::Instant;

use crate::{open::Open, state::State};

/// A long poll never waits longer.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Waits for news of a blob or its ingest.
pub(crate) async fn watch(state: &Arc<State>, request: msg::WatchBlobRequest) -> Result<msg::WatchBlobReply, Status> {
    let digest = convert::digest(&request.digest)?;
    let deadline = Instant::now() + Duration::from_millis(u64::from(request.wait_ms)).min(MAX_WAIT);
    let seen = (request.generation, request.frontier);
    let mut changes = state.changes();
    // The caller does not say which stage it saw; a change of it while we wait is news too.
    let mut first = None;
    loop {
        changes.mark_unchanged();
        let (reply, open) = look(state, digest, &request.r#ref).await?;
        let stage = reply.state();
        let news = stage == Stage::Committed
            || (reply.generation, reply.frontier) != seen
            || *first.get_or_insert(stage) != stage;
        if news || Instant::now() >= deadline {
            return Ok(reply);
        }
        let silent_at = match (&open, stage) {
            (Some(open), Stage::Growing) => open.ingest().silent_at(state.silence).map(Instant::from_std),
            _ => None,
        };
        let moved = async {
            let Some(open) = &open else { return std::future::pending().await };
            let mut frontier = open.hasher().frontier();
            let differs = frontier.wait_for(|now| now.failed.is_some() || (now.generation, now.hashed) != seen);
            // An error would mean that the ingest is dropped, and it is ours to hold.
            drop(differs.await);
        };
        tokio::select! {
            () = moved => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(silent_at.map_or(deadline, |silent| silent.min(deadline))) => {}
        }
    }
}

/// How things stand with a digest or a ref.
async fn look(
    state: &State,
    digest: Digest,
    reference: &str,
) -> Result<(msg::WatchBlobReply, Option<Arc<Open>>), Status> {
    loop {
        // The ingest first: a commit makes its record before it takes the ingest off the list, so that one of the two is
        // seen. The other way round both could be missed, and who follows it would hear that it is no more.
        let open = find(state, &digest, reference);
        if let Some(blob) = state.blob(digest).await? {
            return Ok((committed(blob), None));
        }
        match open {
            None => {
                return Ok((msg::WatchBlobReply { store_id: state.store.id().to_owned(), ..Default::default() }, None));
            }
            Some(open) => {
                let reply = arriving(state, &open)?;
                if !open.is_gone() {
                    return Ok((reply, Some(open)));
                }
            }
        }
    }
}

fn committed(blob: msg::StatBlobReply) -> msg::WatchBlobReply {
    let msg::StatBlobReply { size, path, store_id, .. } = blob;
    let mut reply = msg::WatchBlobReply { frontier: size, total: size, path, store_id, ..Default::default() };
    reply.set_state(Stage::Committed);
    reply
}

fn arriving(state: &State, open: &Open) -> Result<msg::WatchBlobReply, Status> {
    let frontier = open.hasher().now();
    if let Some(status) = frontier.failed {
        return Err(status);
    }
    let mut reply = msg::WatchBlobReply {
        generation: frontier.generation,
        frontier: frontier.hashed,
        total: open.ingest().total,
        path: state.store.layout().data(open.reference()).display().to_string(),
        store_id: state.store.id().to_owned(),
        ..Default::default()
    };
    let active = open.ingest().is_active(Instant::now().into_std(), state.silence);
    reply.set_state(if active { Stage::Growing } else { Stage::Idle });
    Ok(reply)
}

/// The ingest with this ref, or else the one that expects the digest: one that is being written, if there is one.
fn find(state: &State, digest: &Digest, reference: &str) -> Option<Arc<Open>> {
    if !reference.is_empty() {
        return state.find(reference);
    }
    let now = std::time::Instant::now();
    let ingests = state.ingests();
    let mut idle = None;
    for open in ingests.values().filter(|open| open.expects(digest)) {
        if open.ingest().is_active(now, state.silence) {
            return Some(Arc::clone(open));
        }
        idle.get_or_insert(open);
    }
    idle.cloned()
}
