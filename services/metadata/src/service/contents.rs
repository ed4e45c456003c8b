//! Calls about content records and condemnations.

use berth_model::Status;
use berth_wire::metadata as msg;

use super::collection::at_most;
use crate::{check, condemnation, contents, leases, missing, page::Page, store::Store, tables::content};

pub(super) async fn get(store: &Store, request: msg::GetContentRequest) -> Result<msg::Content, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let digest = check::digest(&request.digest)?;
    store
        .read(move |view| {
            content::get(view, &namespace, &digest)?.ok_or_else(|| missing::content(&namespace, &digest.to_string()))
        })
        .await
}

pub(super) async fn list(store: &Store, request: msg::ListContentRequest) -> Result<msg::ListContentReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let after = match request.after.as_str() {
        "" => None,
        digest => Some(check::digest(digest)?),
    };
    let ((contents, more), sequence) = store
        .read_at(move |view| {
            let mut page = Page::new(request.limit);
            content::fill(view, &namespace, after, &mut page)?;
            Ok(page.finish())
        })
        .await?;
    Ok(msg::ListContentReply { contents, more, sequence })
}

pub(super) async fn known(
    store: &Store,
    request: msg::KnownContentsRequest,
) -> Result<msg::KnownContentsReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    at_most(request.digests.len())?;
    let asked = request.digests.iter().map(|digest| check::digest(digest)).collect::<Result<Vec<_>, _>>()?;
    store
        .read(move |view| {
            let mut digests = Vec::new();
            for digest in asked {
                if content::has(view, &namespace, &digest)? {
                    digests.push(digest.to_string());
                }
            }
            Ok(msg::KnownContentsReply { digests })
        })
        .await
}

pub(super) async fn put(store: &Store, request: msg::PutContentRequest) -> Result<msg::PutContentReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let puts = request.entries.into_iter().map(contents::Put::parse).collect::<Result<Vec<_>, _>>()?;
    let lease = request.lease;
    store
        .change(move |change| {
            leases::must_run(change, &namespace, &lease)?;
            contents::put(change, &namespace, &puts)
        })
        .await?;
    Ok(msg::PutContentReply {})
}

pub(super) async fn update(store: &Store, request: msg::UpdateContentRequest) -> Result<msg::Content, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let digest = check::digest(&request.digest)?;
    let (labels, paths) = (request.labels, request.paths);
    store.change(move |change| contents::update(change, &namespace, &digest, &labels, &paths)).await
}

pub(super) async fn delete(
    store: &Store,
    request: msg::DeleteContentRequest,
) -> Result<msg::DeleteContentReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let digest = check::digest(&request.digest)?;
    store.change(move |change| contents::delete(change, &namespace, &digest)).await?;
    Ok(msg::DeleteContentReply {})
}

pub(super) async fn condemn(
    store: &Store,
    request: msg::CondemnContentRequest,
) -> Result<msg::CondemnContentReply, Status> {
    let digest = check::digest(&request.digest)?;
    let lasts = store.condemnation();
    let until = store.change(move |change| condemnation::condemn(change, &digest, lasts)).await?;
    Ok(msg::CondemnContentReply { until: Some(until) })
}

pub(super) async fn absolve(
    store: &Store,
    request: msg::AbsolveContentRequest,
) -> Result<msg::AbsolveContentReply, Status> {
    let digest = check::digest(&request.digest)?;
    let until = check::until(request.until)?;
    let lasts = store.condemnation();
    store.change(move |change| condemnation::absolve(change, &digest, until, lasts)).await?;
    Ok(msg::AbsolveContentReply {})
}
