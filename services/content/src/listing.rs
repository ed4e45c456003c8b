//! Ingests as others see them: one by its ref, or all of them.

use std::{
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use berth_model::Status;
use berth_wire::content as msg;

use crate::{open::Open, page, state::State, store::Layout};

fn describe(open: &Open, silence: Duration) -> msg::Ingest {
    let ingest = open.ingest().clone();
    msg::Ingest {
        active: ingest.is_active(Instant::now(), silence),
        expected: ingest.expected.map(|digest| digest.to_string()).unwrap_or_default(),
        offset: ingest.written,
        total: ingest.total,
        r#ref: ingest.reference,
        started_at: Some(open.started_at()),
        updated_at: open.grown_at(),
    }
}

/// When it was written last, as far as is known. The file system's clock ticks slower than ours: never before the ingest
/// began.
fn touched(layout: &Layout, ingest: &mut msg::Ingest) -> Result<(), Status> {
    if ingest.updated_at.is_none() {
        let moments = [layout.written_at(&ingest.r#ref)?, ingest.started_at];
        ingest.updated_at = moments.into_iter().flatten().max_by_key(|time| (time.seconds, time.nanos));
    }
    Ok(())
}

/// One ingest.
pub(crate) async fn stat(state: &Arc<State>, request: msg::StatIngestRequest) -> Result<msg::Ingest, Status> {
    let missing = || Status::not_found(format!("ingest {} not found", request.r#ref));
    let open = state.find(&request.r#ref).ok_or_else(missing)?;
    let mut ingest = describe(&open, state.silence);
    state
        .files(move |store| {
            touched(store.layout(), &mut ingest)?;
            Ok(ingest)
        })
        .await
}

/// The ingests.
pub(crate) async fn list(
    state: &Arc<State>,
    request: msg::ListIngestsRequest,
) -> Result<msg::ListIngestsReply, Status> {
    let items = page::items(request.limit);
    let after = (Bound::Excluded(request.after), Bound::Unbounded);
    let mut ingests: Vec<msg::Ingest> =
        state.ingests().range(after).take(items + 1).map(|(_, open)| describe(open, state.silence)).collect();
    state
        .files(move |store| {
            for ingest in &mut ingests {
                touched(store.layout(), ingest)?;
            }
            let more = page::cut(&mut ingests, items);
            Ok(msg::ListIngestsReply { ingests, more })
        })
        .await
}
