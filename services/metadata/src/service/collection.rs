//! Calls of a collector.

use std::{collections::HashSet, sync::Arc, time::Duration};

use berth_kv::View;
use berth_model::{Digest, Status};
use berth_wire::{metadata as msg, types};

use crate::{
    check,
    collection::{self, Node, Round},
    condemnation,
    fences::Fence,
    page::Page,
    resource,
    store::Store,
    tables::snapshot,
};

/// Most digests, ids or records in one call.
const MOST: usize = 4096;
/// Records one sweep deletes if nothing else is asked for: no writer waits longer than that takes.
const SWEEP: u32 = 256;
/// So many notes are followed in the change that deletes.
const FEW: usize = 64;
/// So often what was noted is followed ahead of it: each time takes less than the one before, if writers are slower.
const TIMES_AHEAD: usize = 4;

pub(super) async fn mark(store: &Store, request: msg::MarkRequest) -> Result<msg::MarkReply, Status> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let collection = Arc::clone(store.collection());
    collection.begin()?;
    // From here on somebody must say how it ended, also if the caller goes away.
    let pending = Pending { collection: Arc::clone(&collection), watched: request.watched, done: false };
    let raised = Arc::clone(&collection);
    // Among the writers: what comes after it is noted, what came before is in the view.
    store
        .tidy(move |_| {
            raised.barrier.raise();
            Ok(())
        })
        .await?;
    let fences = collection.barrier.fences();
    let round = store.read(move |view| Round::mark(id, view, types::Time::now(), fences)).await?;
    let reply = msg::MarkReply { store_id: store.id().to_owned(), ..round.reply() };
    pending.complete(round);
    Ok(reply)
}

struct Pending {
    collection: Arc<collection::Collection>,
    watched: bool,
    done: bool,
}

impl Pending {
    fn complete(mut self, round: Round) {
        self.collection.marked(Some(round), self.watched);
        self.done = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            self.collection.marked(None, false);
        }
    }
}

pub(super) async fn watch(store: &Store, mark_id: &str, wait: Duration) -> Result<msg::WatchMarkReply, Status> {
    // Dropped with the call when its caller is gone.
    let _there = store.collection().watch(mark_id)?;
    tokio::time::sleep(wait).await;
    Ok(msg::WatchMarkReply {})
}

pub(super) async fn list(store: &Store, request: msg::ListGarbageRequest) -> Result<msg::ListGarbageReply, Status> {
    let collection = Arc::clone(store.collection());
    let first = usize::try_from(request.first).unwrap_or(usize::MAX);
    store
        .read(move |view: &View<'_>| {
            collection.with(&request.mark_id, |round| {
                let mut page = Page::new(request.limit);
                for item in round.list(view, first, page.room())? {
                    if !page.push(item) {
                        break;
                    }
                }
                let (garbage, _) = page.finish();
                let more = first + garbage.len() < round.garbage_count();
                Ok(msg::ListGarbageReply { garbage, more })
            })
        })
        .await
}

pub(super) async fn sweep(store: &Store, request: msg::SweepRequest) -> Result<msg::SweepReply, Status> {
    let limit = if request.limit == 0 { SWEEP } else { request.limit };
    let limit = usize::try_from(limit).unwrap_or(MOST).min(MOST);
    let (collection, id) = (Arc::clone(store.collection()), request.mark_id.clone());
    let swept = match follow(store, &id).await {
        Ok(()) => delete(store, request.mark_id, limit).await,
        Err(status) => Err(status),
    };
    if swept.is_err() {
        // It may have counted as deleted what is not: the next mark finds it again.
        collection.end(&id);
    }
    swept
}

/// Follows what was written since the mark, as long as it is much, while others go on writing: the change that deletes,
/// for which all wait, is left with the newest.
async fn follow(store: &Store, id: &str) -> Result<(), Status> {
    let collection = Arc::clone(store.collection());
    // Without that fence the notes are looked at before the first deletion, and not again.
    let once = collection.barrier.lacks(Fence::OneChange);
    if once && collection.with(id, |round| Ok(round.has_begun()))? {
        return Ok(());
    }
    for _ in 0..TIMES_AHEAD {
        if collection.barrier.count() <= FEW && !once {
            break;
        }
        let (gathering, following) = (Arc::clone(&collection), Arc::clone(&collection));
        let (for_gathering, for_following) = (id.to_owned(), id.to_owned());
        store
            .tidy(move |_| {
                let barrier = Arc::clone(&gathering.barrier);
                gathering.with(&for_gathering, |round| round.gather(&barrier))
            })
            .await?;
        store.read(move |view| following.with(&for_following, |round| round.follow(view))).await?;
    }
    Ok(())
}

async fn delete(store: &Store, id: String, limit: usize) -> Result<msg::SweepReply, Status> {
    let working = Arc::clone(store.collection());
    store
        .tidy(move |change| {
            let barrier = Arc::clone(&working.barrier);
            working.with(&id, |round| round.sweep(change, &barrier, limit))
        })
        .await
}

pub(super) async fn end(store: &Store, request: msg::EndMarkRequest) -> Result<msg::EndMarkReply, Status> {
    store.collection().end(&request.mark_id);
    Ok(msg::EndMarkReply {})
}

pub(super) async fn unnamed(store: &Store, request: msg::ListUnnamedRequest) -> Result<msg::ListUnnamedReply, Status> {
    at_most(request.digests.len())?;
    let asked = request.digests.iter().map(|digest| check::digest(digest)).collect::<Result<Vec<_>, _>>()?;
    let collection = Arc::clone(store.collection());
    store
        .read(move |view| {
            let now = types::Time::now();
            let mut digests = Vec::new();
            for digest in asked {
                let recorded = collection::namespaces_of(view, &digest)?;
                let id = digest.to_string();
                let named = msg::Resource { r#type: resource::CONTENT.to_owned(), id: id.clone() };
                let kept = collection.with(&request.mark_id, |round| {
                    Ok(recorded.iter().any(|namespace| !round.is_garbage(&Node::content(namespace, digest))))
                })?;
                if !kept && crate::leases::any_running(view, &named, now)?.is_none() {
                    digests.push(id);
                }
            }
            Ok(msg::ListUnnamedReply { digests })
        })
        .await
}

pub(super) async fn explain(store: &Store, request: msg::ExplainRequest) -> Result<msg::ExplainReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let named = resource::parse(&msg::Resource { r#type: request.r#type, id: request.id })?;
    let Some(node) = Node::leased(&namespace, &named.r#type, &named.id) else {
        return Err(Status::invalid_argument(format!("a {} cannot be explained", named.r#type)));
    };
    store
        .read(move |view| {
            let chain = collection::chain(view, &node, types::Time::now())?;
            let also_in = match named.id.parse::<Digest>() {
                Ok(digest) if named.r#type == resource::CONTENT => collection::namespaces_of(view, &digest)?,
                _ => Vec::new(),
            };
            let also_in = also_in.into_iter().filter(|other| *other != namespace).collect();
            Ok(msg::ExplainReply { exists: collection::exists(view, &node)?, chain, also_in })
        })
        .await
}

pub(super) async fn known(
    store: &Store,
    request: msg::KnownSnapshotsRequest,
) -> Result<msg::KnownSnapshotsReply, Status> {
    let snapshotter = check::snapshotter(&request.snapshotter)?;
    at_most(request.ids.len())?;
    let asked: HashSet<u64> = request.ids.into_iter().collect();
    let store_id = store.id().to_owned();
    store
        .read(move |view| {
            let mut ids = Vec::new();
            snapshot::each(view, |place, record| {
                if place.snapshotter == snapshotter && asked.contains(&record.id) {
                    ids.push(record.id);
                }
                Ok(())
            })?;
            Ok(msg::KnownSnapshotsReply { ids, store_id })
        })
        .await
}

pub(super) async fn leased(store: &Store, request: msg::LeasedRequest) -> Result<msg::LeasedReply, Status> {
    at_most(request.resources.len())?;
    let asked = request.resources.iter().map(resource::parse).collect::<Result<Vec<_>, _>>()?;
    store
        .read(move |view| {
            let now = types::Time::now();
            let mut resources = Vec::new();
            for named in asked {
                if crate::leases::any_running(view, &named, now)?.is_some() {
                    resources.push(named);
                }
            }
            Ok(msg::LeasedReply { resources })
        })
        .await
}

pub(super) async fn condemn(
    store: &Store,
    request: msg::CondemnContentsRequest,
) -> Result<msg::CondemnContentsReply, Status> {
    at_most(request.digests.len())?;
    let asked = request.digests.iter().map(|digest| check::digest(digest)).collect::<Result<Vec<_>, _>>()?;
    let lasts = store.condemnation();
    store
        .tidy(move |change| {
            let mut reply = msg::CondemnContentsReply::default();
            for digest in &asked {
                // In use, or being deleted by somebody else: not ours.
                if let Ok(until) = condemnation::condemn(change, digest, lasts) {
                    reply.until = Some(until);
                    reply.digests.push(digest.to_string());
                }
            }
            Ok(reply)
        })
        .await
}

pub(super) async fn absolve(
    store: &Store,
    request: msg::AbsolveContentsRequest,
) -> Result<msg::AbsolveContentsReply, Status> {
    at_most(request.digests.len())?;
    let asked = request.digests.iter().map(|digest| check::digest(digest)).collect::<Result<Vec<_>, _>>()?;
    let (until, lasts) = (check::until(request.until)?, store.condemnation());
    store
        .tidy(move |change| {
            for digest in &asked {
                condemnation::absolve(change, digest, until, lasts)?;
            }
            Ok(msg::AbsolveContentsReply {})
        })
        .await
}

pub(super) fn at_most(number: usize) -> Result<(), Status> {
    if number > MOST {
        return Err(Status::invalid_argument(format!("{number} in one call, and {MOST} are the most")));
    }
    Ok(())
}
