//! From an ingest to a blob: complete, hashed, what was promised, flushed, named, recorded; and only then answered.

use std::{sync::Arc, time::Instant};

use berth_failpoint::{Point, pass};
use berth_model::{Digest, Status};
use berth_wire::{content as msg, types::BlobPlace};

use tracing::Instrument as _;

use crate::{ingest::lost, open::Open, service::optional, state::State, store::Store, writing::exists};

/// Keeps the ingest with its writer for as long as the commit takes.
struct Committing<'a>(&'a State, &'a Open);

impl<'a> Committing<'a> {
    fn begin(state: &'a State, open: &'a Open) -> Self {
        open.ingest().begin_commit();
        Self(state, open)
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.1.ingest().end_commit(Instant::now());
        self.0.changed();
    }
}

/// Verifies, makes durable and publishes.
pub(crate) async fn commit(
    state: Arc<State>,
    request: msg::CommitIngestRequest,
) -> Result<msg::CommitIngestReply, Status> {
    let expected = optional(&request.expected)?;
    let Some(open) = state.find(&request.r#ref) else { return Err(gone(&state, &request.r#ref, expected).await) };
    let _turn = match open.turn_of(&request.session).await {
        Ok(turn) => turn,
        Err(_) if open.is_gone() => return Err(gone(&state, &request.r#ref, expected).await),
        Err(status) => return Err(status),
    };
    let name = request.r#ref.clone();
    let length = state.files(move |store| store.layout().data_length(&name)).await?;
    if request.written > 0 {
        open.ingest().advance(request.written, length)?;
        open.grew();
    }
    let _committing = Committing::begin(&state, &open);
    let verified = verify(&open, length, request.size, expected).instrument(tracing::info_span!("verify"));
    let digest = verified.await?;
    let (size, generation) = {
        let ingest = open.ingest();
        (ingest.written, ingest.generation)
    };

    let name = request.r#ref;
    let fresh = match state.files(move |store| Ok(land(store, &name, &digest))).await? {
        Landed::Fresh => true,
        Landed::Known => false,
        Landed::Refused(status) => {
            open.spoil(generation, &status);
            return Err(status);
        }
        Landed::Unnamed { status, has_data } => {
            if !has_data {
                state.end(&open);
            }
            return Err(status);
        }
    };
    let recorded = state.settle(vec![digest]).instrument(tracing::info_span!("record")).await;
    pass(Point::ContentRecorded);
    state.end(&open);
    recorded?;
    tracing::debug!(reference = open.reference(), %digest, size, fresh, "an ingest was committed");
    if fresh {
        let path = state.store.layout().blob(&digest).display().to_string();
        let place = Some(BlobPlace { path, store_id: state.store.id().to_owned() });
        Ok(msg::CommitIngestReply { digest: digest.to_string(), size, place })
    } else {
        Err(exists(&digest))
    }
}

/// How it went with the files of an ingest that is right.
enum Landed {
    /// It is a blob now.
    Fresh,
    /// The blob was there already.
    Known,
    /// The disk refused the bytes.
    Refused(Status),
    /// They are on disk, but not for good under the blob's name.
    Unnamed {
        status: Status,
        /// After an error between the rename and the end, the ingest has no data any more.
        has_data: bool,
    },
}

/// Makes the bytes durable, and then their name.
fn land(store: &Store, name: &str, digest: &Digest) -> Landed {
    if let Err(status) = tracing::info_span!("flush").in_scope(|| store.flush_data(name)) {
        return Landed::Refused(status);
    }
    match tracing::info_span!("publish").in_scope(|| store.publish(name, digest)) {
        Ok(true) => Landed::Fresh,
        Ok(false) => Landed::Known,
        Err(status) => Landed::Unnamed { status, has_data: store.layout().data(name).exists() },
    }
}

/// The digest of an ingest whose file is so long, if it is complete and what was promised.
async fn verify(open: &Open, length: u64, size: u64, expected: Option<Digest>) -> Result<Digest, Status> {
    let ingest = open.ingest().clone();
    ingest.complete(length)?;
    let digest = open.hasher().digest_of_whole(ingest.generation, ingest.written).await?;
    ingest.verify(size, expected.as_ref(), &digest).inspect_err(|status| {
        if ingest.is_hopeless(size, &digest) {
            open.spoil(ingest.generation, status);
        }
    })?;
    Ok(digest)
}

/// What a writer is told whose ingest is not there: ALREADY_EXISTS if that is because its blob is, be it that somebody else
/// was quicker or that this very commit was done before and its answer got lost.
async fn gone(state: &State, reference: &str, expected: Option<Digest>) -> Status {
    let Some(digest) = expected else { return lost(reference) };
    match state.blob(digest).await {
        Ok(Some(_)) => exists(&digest),
        Ok(None) => lost(reference),
        Err(status) => status,
    }
}
