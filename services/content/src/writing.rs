//! An ingest from its writer's side, up to its commit: open, advance, hash, restart, release, abort.

use std::{sync::Arc, time::Instant};

use berth_model::{Code, Digest, Status};
use berth_wire::content as msg;

use crate::{
    hasher,
    ingest::lost,
    open::{Open, Turn},
    service::optional,
    state::{State, find},
    store::Kept,
};

/// A ref is kept in a file and travels in lists.
const MAX_REF: usize = 4096;

/// Begins or resumes an ingest.
pub(crate) async fn open(state: Arc<State>, request: msg::OpenIngestRequest) -> Result<msg::OpenIngestReply, Status> {
    let msg::OpenIngestRequest { r#ref: reference, expected, total } = request;
    if reference.is_empty() || reference.len() > MAX_REF {
        return Err(Status::invalid_argument(format!("an ingest needs a ref of 1 to {MAX_REF} bytes")));
    }
    let expected = optional(&expected)?;
    let done = begin(&state, &reference, expected, total).await;
    // Whatever is wrong with the ingest, nobody needs it when its blob is there.
    if let (Err(status), Some(digest)) = (&done, expected)
        && status.code != Code::AlreadyExists
        && state.blob(digest).await?.is_some()
    {
        drop_if_idle(&state, &reference).await?;
        return Err(exists(&digest));
    }
    done
}

async fn drop_if_idle(state: &Arc<State>, reference: &str) -> Result<(), Status> {
    let Some(open) = state.find(reference) else { return Ok(()) };
    let Some(turn) = open.try_turn() else { return Ok(()) };
    if open.is_gone() || open.ingest().is_active(Instant::now(), state.silence) {
        return Ok(());
    }
    drop_ingest(state, &open, &turn).await
}

/// What a writer is told whose blob is there.
pub(crate) fn exists(digest: &Digest) -> Status {
    Status::already_exists(format!("blob {digest} exists"))
}

async fn begin(
    state: &Arc<State>,
    reference: &str,
    expected: Option<Digest>,
    total: u64,
) -> Result<msg::OpenIngestReply, Status> {
    let (open, turn, fresh) = claim(state, reference)?;
    let done = take(state, &open, expected, total).await;
    let needless = done.as_ref().is_err_and(|status| status.code == Code::AlreadyExists);
    if needless && fresh {
        // It got no files, and who asks for the blob sees that before the ingest: nobody waits for its end.
        state.forget(&open);
    } else if needless || (fresh && done.is_err()) {
        // Nobody needs it, or knows of it yet; what it got of a full disk shall not stay.
        if let Err(status) = drop_ingest(state, &open, &turn).await {
            tracing::warn!(%status, reference, "an ingest that is of no use was not removed; after the next start it is collected");
            if fresh {
                state.end(&open);
            }
        }
    }
    done
}

async fn drop_ingest(state: &Arc<State>, open: &Arc<Open>, _turn: &Turn) -> Result<(), Status> {
    let name = open.reference().to_owned();
    state.files(move |store| store.drop_ingest(&name)).await?;
    state.end(open);
    Ok(())
}

/// Finds or makes the entry of an ingest, with the turn to change it. `true`: it was made.
fn claim(state: &State, reference: &str) -> Result<(Arc<Open>, Turn, bool), Status> {
    loop {
        let (open, fresh) = {
            let mut ingests = state.ingests();
            match ingests.get(reference) {
                Some(open) => (Arc::clone(open), false),
                None if ingests.len() >= state.max_ingests => {
                    let most = state.max_ingests;
                    return Err(Status::resource_exhausted(format!(
                        "there are {most} ingests already; let some finish, or abort those left behind"
                    )));
                }
                None => {
                    let kept = Kept { reference: reference.to_owned(), ..Kept::default() };
                    let open = Arc::new(Open::new(kept, state.store.layout()));
                    ingests.insert(reference.to_owned(), Arc::clone(&open));
                    (open, true)
                }
            }
        };
        let Some(turn) = open.try_turn() else { return Err(open.ingest().locked()) };
        // It may have gone between the two: then it is off the list by now.
        if !open.is_gone() {
            return Ok((open, turn, fresh));
        }
    }
}

/// Takes the writer's seat and makes the files ready for it.
async fn take(
    state: &Arc<State>,
    open: &Arc<Open>,
    expected: Option<Digest>,
    total: u64,
) -> Result<msg::OpenIngestReply, Status> {
    let session = uuid::Uuid::new_v4().to_string();
    {
        let (mut ingest, now) = (open.ingest(), Instant::now());
        if ingest.is_active(now, state.silence) {
            return Err(ingest.locked());
        }
        ingest.promise(expected, total)?;
        ingest.sit(&session, now, state.silence)?;
    }
    match prepare(state, open, expected).await {
        Ok(offset) => {
            state.changed();
            tracing::debug!(reference = open.reference(), offset, "an ingest has a writer");
            Ok(msg::OpenIngestReply {
                session,
                path: state.store.layout().data(open.reference()).display().to_string(),
                store_id: state.store.id().to_owned(),
                offset,
                commit_advances: true,
                yours_for_ms: u64::try_from(state.silence.as_millis()).unwrap_or(u64::MAX),
            })
        }
        Err(status) => {
            open.ingest().stand();
            Err(status)
        }
    }
}

/// Makes the files ready for a new writer and answers where it goes on. ALREADY_EXISTS: the blob is there.
async fn prepare(state: &Arc<State>, open: &Arc<Open>, expected: Option<Digest>) -> Result<u64, Status> {
    let (ingest, hashed) = (open.ingest().clone(), open.hasher().now());
    let damaged = ingest.spoiled.is_some() || hashed.failed.is_some();
    let db = state.db.clone();
    let (offset, other_file) = state
        .files(move |store| {
            // Looked for by whoever has the turn: it cannot come by this ingest meanwhile.
            if let Some(digest) = expected
                && db.read_here(|view| find(view, store, &digest))?.is_some()
            {
                return Err(exists(&digest));
            }
            let name = &ingest.reference;
            let length = store.begin(name, ingest.expected.as_ref(), ingest.total)?.length;
            let too_long = ingest.total > 0 && length > ingest.total;
            if damaged || too_long || length < hashed.hashed {
                tracing::debug!(reference = name, length, damaged, too_long, "an ingest begins anew");
                store.restart(name)?;
                return Ok((0, true));
            }
            if store.is_held(name)? {
                // Its last writer was only silent. What it may still write must not change what is hashed.
                tracing::debug!(reference = name, length, "an ingest's last writer may be alive; going on with a copy");
                store.fork(name, length)?;
                return Ok((length, true));
            }
            Ok((length, false))
        })
        .await?;
    if other_file {
        open.begin_anew(offset);
    } else {
        open.ingest().written = offset;
    }
    // A small one is hashed when it is whole.
    let total = open.ingest().total;
    if offset > 0 || total == 0 || total > hasher::SMALL {
        open.hasher().advance(offset)?;
    }
    Ok(offset)
}

/// Says how far the file was written.
pub(crate) async fn advance(
    state: &Arc<State>,
    request: msg::AdvanceIngestRequest,
) -> Result<msg::AdvanceIngestReply, Status> {
    let open = state.find(&request.r#ref).ok_or_else(|| lost(&request.r#ref))?;
    let _turn = open.turn_of(&request.session).await?;
    let written = request.written;
    if written != open.ingest().written {
        let name = open.reference().to_owned();
        let length = state.files(move |store| store.layout().data_length(&name)).await?;
        open.ingest().advance(written, length)?;
        open.grew();
        open.hasher().advance(written)?;
        open.keep_early(&state.store);
    }
    Ok(msg::AdvanceIngestReply {})
}

/// Says how far the file was written, and waits for the digest up to there.
pub(crate) async fn hash(state: &Arc<State>, request: msg::HashIngestRequest) -> Result<msg::HashIngestReply, Status> {
    let msg::HashIngestRequest { r#ref, session, written } = request;
    let told = msg::AdvanceIngestRequest { r#ref: r#ref.clone(), session: session.clone(), written };
    advance(state, told).await?;
    let open = state.find(&r#ref).ok_or_else(|| lost(&r#ref))?;
    let generation = open.ingest().generation;
    let mut digest = std::pin::pin!(open.hasher().digest(generation, written));
    loop {
        // A large ingest that is resumed takes a while; whoever waits for it is its writer all the same.
        tokio::select! {
            done = &mut digest => return Ok(msg::HashIngestReply { digest: done?.to_string() }),
            () = tokio::time::sleep(state.silence / 3) => open.ingest().check(&session, Instant::now())?,
        }
    }
}

/// Cuts the ingest to zero bytes.
pub(crate) async fn restart(
    state: Arc<State>,
    request: msg::RestartIngestRequest,
) -> Result<msg::RestartIngestReply, Status> {
    let open = state.find(&request.r#ref).ok_or_else(|| lost(&request.r#ref))?;
    let _turn = open.turn_of(&request.session).await?;
    tracing::debug!(reference = open.reference(), "an ingest begins anew: its writer says so");
    state.files(move |store| store.restart(&request.r#ref)).await?;
    open.begin_anew(0);
    open.hasher().advance(0)?;
    Ok(msg::RestartIngestReply {})
}

/// Gives the writer's place up.
pub(crate) async fn release(
    state: Arc<State>,
    request: msg::ReleaseIngestRequest,
) -> Result<msg::ReleaseIngestReply, Status> {
    let open = state.find(&request.r#ref).ok_or_else(|| lost(&request.r#ref))?;
    let _turn = open.turn_of(&request.session).await?;
    let touched = state.files(move |store| {
        store.touch(&request.r#ref);
        Ok(())
    });
    touched.await?;
    open.ingest().stand();
    open.hasher().rest();
    state.changed();
    Ok(msg::ReleaseIngestReply {})
}

/// Drops an ingest and its bytes.
pub(crate) async fn abort(
    state: Arc<State>,
    request: msg::AbortIngestRequest,
) -> Result<msg::AbortIngestReply, Status> {
    let missing = || Status::not_found(format!("ingest {} not found", request.r#ref));
    let open = state.find(&request.r#ref).ok_or_else(missing)?;
    // Committed or dropped while we waited: it is not there.
    let turn = open.turn().await.map_err(|_gone| missing())?;
    if let Some(since) = request.untouched_since {
        if open.ingest().is_active(Instant::now(), state.silence) {
            return Err(Status::failed_precondition(format!("ingest {} has a writer", request.r#ref)));
        }
        let name = open.reference().to_owned();
        let written = state.files(move |store| store.layout().written_at(&name)).await?;
        if written.is_some_and(|written| written.millis() > since.millis()) {
            return Err(Status::failed_precondition(format!("ingest {} was written to since {since}", request.r#ref)));
        }
    }
    drop_ingest(&state, &open, &turn).await?;
    tracing::debug!(reference = open.reference(), "an ingest was dropped");
    Ok(msg::AbortIngestReply {})
}
