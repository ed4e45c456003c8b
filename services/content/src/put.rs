//! A small blob in one call: its bytes are in the message, so it needs no ingest that others could follow or resume.

use std::sync::Arc;

use berth_api::content::SMALL_BLOB;
use berth_model::{Digest, Status};
use berth_wire::{content as msg, convert};
use tracing::Instrument as _;

use crate::{commit, state::State, writing};

/// Verifies, makes durable and publishes.
pub(crate) async fn put(state: Arc<State>, request: msg::PutBlobRequest) -> Result<msg::PutBlobReply, Status> {
    let digest = convert::digest(&request.digest)?;
    let size = request.data.len();
    if size as u64 > SMALL_BLOB {
        return Err(Status::invalid_argument(format!("{size} bytes are no small blob; open an ingest for {digest}")));
    }
    let seen = tracing::info_span!("verify").in_scope(|| Digest::of(&request.data));
    if seen != digest {
        return Err(Status::failed_precondition(format!("{size} bytes have the digest {seen}, promised was {digest}")));
    }
    let published = state.files(move |store| {
        let data = tracing::info_span!("flush").in_scope(|| store.flush_small(&digest, &request.data))?;
        tracing::info_span!("publish").in_scope(|| store.publish_small(&data, &digest))
    });
    let fresh = published.await?;
    state.settle(vec![digest]).instrument(tracing::info_span!("record")).await?;
    // What an earlier writer left of it is of no use to anybody.
    let left: Vec<String> =
        state.ingests().values().filter(|open| open.expects(&digest)).map(|open| open.reference().to_owned()).collect();
    for reference in left {
        if let Err(status) = writing::drop_if_idle(&state, &reference).await {
            tracing::debug!(%status, reference, "what is left of an ingest is not removed");
        }
    }
    state.changed();
    tracing::debug!(%digest, size, fresh, "a small blob was put");
    if fresh {
        Ok(msg::PutBlobReply { place: Some(commit::place(&state, &digest)) })
    } else {
        Err(Status::already_exists(format!("blob {digest} exists")))
    }
}
