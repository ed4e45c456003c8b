//! Blobs that are there: facts about one, the list, and the deletion of a condemned one.

use std::sync::Arc;

use berth_api::owner;
use berth_model::{Code, Digest, Status};
use berth_wire::{content as msg, convert, types::Time};

use crate::{
    page,
    service::optional,
    state::{State, find, located},
    tables,
};

/// Most blobs in one call.
const MANY: usize = 4096;
/// The same where each has a path in the answer, which must fit a message.
const STATS: usize = 1000;

/// Facts about a blob, and where to read it.
pub(crate) async fn stat(state: &State, request: msg::StatBlobRequest) -> Result<msg::StatBlobReply, Status> {
    let digest = convert::digest(&request.digest)?;
    state.blob(digest).await?.ok_or_else(|| Status::not_found(format!("blob {digest} not found")))
}

/// Facts about those that are there.
pub(crate) async fn stat_many(state: &State, request: msg::StatBlobsRequest) -> Result<msg::StatBlobsReply, Status> {
    let asked = request.digests.iter().map(|digest| convert::digest(digest)).collect::<Result<Vec<_>, _>>()?;
    if asked.len() > STATS {
        return Err(Status::invalid_argument(format!("{} blobs in one call, and {STATS} are the most", asked.len())));
    }
    let store = Arc::clone(&state.store);
    let found = state.db.read(move |view| {
        let each = asked.iter().map(|digest| find(view, &store, digest));
        each.filter_map(Result::transpose).collect::<Result<_, _>>()
    });
    Ok(msg::StatBlobsReply { blobs: found.await? })
}

/// The blobs.
pub(crate) async fn list(state: &State, request: msg::ListBlobsRequest) -> Result<msg::ListBlobsReply, Status> {
    let (after, items) = (optional(&request.after)?, page::items(request.limit));
    let store = Arc::clone(&state.store);
    state
        .db
        .read(move |view| {
            let rows = tables::blobs::scan(view, after.as_ref(), items + 1)?;
            let mut blobs: Vec<_> = rows.into_iter().map(|(digest, stored)| located(&store, &digest, stored)).collect();
            let more = page::cut(&mut blobs, items);
            Ok(msg::ListBlobsReply { blobs, more })
        })
        .await
}

/// Deletes the file of a condemned blob.
pub(crate) async fn delete(state: Arc<State>, request: msg::DeleteBlobRequest) -> Result<msg::DeleteBlobReply, Status> {
    let digest = convert::digest(&request.digest)?;
    let not_after = *convert::required(request.not_after.as_ref(), "not_after")?;
    let deleted = state.files(move |store| store.delete_blob(&digest, || in_time(&digest, not_after))).await;
    if deleted.is_ok() || deleted.as_ref().is_err_and(|status| status.code == Code::NotFound) {
        state.settle(vec![digest]).await?;
        state.changed();
    }
    let freed = deleted?;
    tracing::debug!(%digest, freed, "a blob was deleted");
    Ok(msg::DeleteBlobReply { freed })
}

/// Asked at the last moment, on the thread that deletes: it may have had to wait for its turn.
fn in_time(digest: &Digest, not_after: Time) -> Result<(), Status> {
    if Time::now().millis() < not_after.millis() {
        return Ok(());
    }
    Err(Status::failed_precondition(format!("the leave to delete {digest} ended at {not_after}")))
}

/// Deletes the files of condemned blobs, as many as the time is enough for.
pub(crate) async fn delete_many(
    state: Arc<State>,
    request: msg::DeleteBlobsRequest,
) -> Result<msg::DeleteBlobsReply, Status> {
    let asked = request.digests.iter().map(|digest| convert::digest(digest)).collect::<Result<Vec<_>, _>>()?;
    if asked.len() > MANY {
        return Err(Status::invalid_argument(format!("{} blobs in one call, and {MANY} are the most", asked.len())));
    }
    let not_after = *convert::required(request.not_after.as_ref(), "not_after")?;
    let owner = request.owner;
    let (deleted, refused) = state
        .files(move |store| {
            owner::check(store.layout().root(), &owner)?;
            let mut deleted = Vec::new();
            for digest in asked {
                match store.delete_blob(&digest, || in_time(&digest, not_after)) {
                    Ok(freed) => deleted.push((digest, freed)),
                    Err(status) if status.code == Code::NotFound => {}
                    Err(status) => return Ok((deleted, Some(status))),
                }
            }
            Ok((deleted, None))
        })
        .await?;
    state.settle(deleted.iter().map(|(digest, _)| *digest).collect()).await?;
    state.changed();
    match refused {
        Some(status) if deleted.is_empty() => return Err(status),
        Some(status) => tracing::warn!(%status, "not all condemned blobs were deleted"),
        None => {}
    }
    let deleted = deleted.into_iter();
    let deleted = deleted.map(|(digest, freed)| msg::delete_blobs_reply::Deleted { digest: digest.to_string(), freed });
    Ok(msg::DeleteBlobsReply { deleted: deleted.collect() })
}
