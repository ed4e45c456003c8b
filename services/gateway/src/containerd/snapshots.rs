//! `containerd.services.snapshots.v1.Snapshots`: for each snapshotter there is, and for a containerd that keeps its own
//! snapshots here.

mod home;

use std::{borrow::Cow, pin::Pin, sync::Arc};

use berth_model::{
    Status,
    filter::{self, Fields, Filters},
    labels::Labels,
};
use berth_wire::{
    containerd::{
        snapshots::{self as api, snapshots_server::Snapshots},
        types,
    },
    metadata::{Snapshot, snapshot::Kind},
    types::Mount,
    unpacker as msg,
};
use futures::Stream;
use tonic::Request;

use self::home::Home;
use super::{
    Grpc, answer,
    convert::{paths, signed, timestamp},
};
use crate::{Backend, to_grpc};

type ListStream = Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, tonic::Status>> + Send>>;

/// Infos in a message, as containerd sends them.
const PAGE: u32 = 100;

#[tonic::async_trait]
impl Snapshots for Backend {
    async fn prepare(&self, request: Request<api::PrepareSnapshotRequest>) -> Grpc<api::PrepareSnapshotResponse> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        let api::PrepareSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        let made = make(self, home, key, parent, labels, false).await;
        answer(made.map(|mounts| api::PrepareSnapshotResponse { mounts }))
    }

    async fn view(&self, request: Request<api::ViewSnapshotRequest>) -> Grpc<api::ViewSnapshotResponse> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        let api::ViewSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        let made = make(self, home, key, parent, labels, true).await;
        answer(made.map(|mounts| api::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(&self, request: Request<api::MountsRequest>) -> Grpc<api::MountsResponse> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(mounts(self, home, request.into_inner().key).await)
    }

    async fn commit(&self, request: Request<api::CommitSnapshotRequest>) -> Grpc<()> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(commit(self, home, request.into_inner()).await)
    }

    async fn remove(&self, request: Request<api::RemoveSnapshotRequest>) -> Grpc<()> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(remove(self, home, request.into_inner().key).await)
    }

    async fn stat(&self, request: Request<api::StatSnapshotRequest>) -> Grpc<api::StatSnapshotResponse> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(stat(self, home, request.into_inner().key).await)
    }

    async fn update(&self, request: Request<api::UpdateSnapshotRequest>) -> Grpc<api::UpdateSnapshotResponse> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(update(self, home, request.into_inner()).await)
    }

    type ListStream = ListStream;

    async fn list(&self, request: Request<api::ListSnapshotsRequest>) -> Grpc<Self::ListStream> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(home.and_then(|home| list(self, home, &request.get_ref().filters)))
    }

    async fn usage(&self, request: Request<api::UsageRequest>) -> Grpc<api::UsageResponse> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(usage(self, home, request.into_inner().key).await)
    }

    async fn cleanup(&self, request: Request<api::CleanupRequest>) -> Grpc<()> {
        let home = Home::of(&request, &request.get_ref().snapshotter);
        answer(cleanup(self, home).await)
    }
}

async fn make(
    backend: &Backend,
    home: Result<Home, Status>,
    key: String,
    parent: String,
    labels: Labels,
    view: bool,
) -> Result<Vec<types::Mount>, Status> {
    let home = home?;
    let labels = home.stored(labels);
    let Home { namespace, snapshotter, lease, .. } = home;
    let request = msg::PrepareMountsRequest { namespace, snapshotter, key, parent, view, labels, lease };
    Ok(backend.unpacker.prepare_mounts(request).await?.mounts.into_iter().map(to_mount).collect())
}

async fn mounts(backend: &Backend, home: Result<Home, Status>, key: String) -> Result<api::MountsResponse, Status> {
    let Home { namespace, snapshotter, .. } = home?;
    let found = backend.unpacker.get_mounts(msg::GetMountsRequest { namespace, snapshotter, key }).await?;
    Ok(api::MountsResponse { mounts: found.mounts.into_iter().map(to_mount).collect() })
}

async fn commit(
    backend: &Backend,
    home: Result<Home, Status>,
    request: api::CommitSnapshotRequest,
) -> Result<(), Status> {
    let home = home?;
    let labels = home.stored(request.labels);
    let api::CommitSnapshotRequest { name, key, parent, .. } = request;
    let Home { namespace, snapshotter, lease, .. } = home;
    let request = msg::CommitActiveRequest { namespace, snapshotter, key, name, labels, parent, lease };
    backend.unpacker.commit_active(request).await?;
    Ok(())
}

async fn remove(backend: &Backend, home: Result<Home, Status>, key: String) -> Result<(), Status> {
    let home = home?;
    let (namespace, snapshotter) = (home.namespace.clone(), home.snapshotter.clone());
    backend.unpacker.remove_tree(msg::RemoveTreeRequest { namespace, snapshotter, key: key.clone() }).await?;
    home.let_go(backend, &key).await;
    Ok(())
}

async fn stat(backend: &Backend, home: Result<Home, Status>, key: String) -> Result<api::StatSnapshotResponse, Status> {
    let home = home?;
    let (namespace, snapshotter) = (home.namespace.clone(), home.snapshotter.clone());
    let found = backend.unpacker.stat_tree(msg::StatTreeRequest { namespace, snapshotter, key }).await?;
    Ok(api::StatSnapshotResponse { info: Some(to_info(&home, found)) })
}

async fn update(
    backend: &Backend,
    home: Result<Home, Status>,
    request: api::UpdateSnapshotRequest,
) -> Result<api::UpdateSnapshotResponse, Status> {
    let home = home?;
    let info = request.info.ok_or_else(|| Status::invalid_argument("info is missing in the request"))?;
    let (labels, replace) = changes(info.labels, &paths(request.update_mask))?;
    let request = msg::UpdateTreeRequest {
        namespace: home.namespace.clone(),
        snapshotter: home.snapshotter.clone(),
        key: info.name,
        labels: if replace { home.stored(labels) } else { labels },
        replace,
    };
    let updated = backend.unpacker.update_tree(request).await?;
    Ok(api::UpdateSnapshotResponse { info: Some(to_info(&home, updated)) })
}

/// What an update does to labels, and whether all others go.
fn changes(labels: Labels, paths: &[String]) -> Result<(Labels, bool), Status> {
    if paths.is_empty() || paths.iter().any(|path| path == "labels") {
        if let Some(other) = paths.iter().find(|path| *path != "labels" && !path.starts_with("labels.")) {
            return Err(immutable(other));
        }
        return Ok((labels, true));
    }
    let mut changes = Labels::new();
    for path in paths {
        let key = path.strip_prefix("labels.").ok_or_else(|| immutable(path))?;
        changes.insert(key.to_owned(), labels.get(key).cloned().unwrap_or_default());
    }
    Ok((changes, false))
}

fn immutable(path: &str) -> Status {
    Status::invalid_argument(format!("cannot update {path:?} field of a snapshot; only its labels can be changed"))
}

fn list(backend: &Backend, home: Home, filters: &[String]) -> Result<ListStream, Status> {
    let filters = Filters::parse(filters)?;
    let start = (Arc::clone(&backend.unpacker), Some(String::new()));
    let messages = futures::stream::try_unfold(start, move |(unpacker, after)| {
        let (home, filters) = (home.clone(), filters.clone());
        async move {
            let Some(mut after) = after else { return Ok(None) };
            loop {
                let (namespace, snapshotter) = (home.namespace.clone(), home.snapshotter.clone());
                let request = msg::ListTreesRequest { namespace, snapshotter, after, limit: PAGE };
                let page = unpacker.list_trees(request).await.map_err(to_grpc)?;
                let next = page.snapshots.last().filter(|_| page.more).map(|last| last.name.clone());
                let wanted = page.snapshots.into_iter().filter(|snapshot| filters.matches(&Record(snapshot)));
                let info: Vec<_> = wanted.map(|snapshot| to_info(&home, snapshot)).collect();
                match next {
                    Some(next) if info.is_empty() => after = next,
                    None if info.is_empty() => return Ok(None),
                    next => return Ok(Some((api::ListSnapshotsResponse { info }, (unpacker, next)))),
                }
            }
        }
    });
    Ok(Box::pin(messages))
}

async fn usage(backend: &Backend, home: Result<Home, Status>, key: String) -> Result<api::UsageResponse, Status> {
    let Home { namespace, snapshotter, .. } = home?;
    let usage = backend.unpacker.get_usage(msg::GetUsageRequest { namespace, snapshotter, key }).await?;
    Ok(api::UsageResponse { size: signed(usage.size), inodes: signed(usage.inodes) })
}

async fn cleanup(backend: &Backend, home: Result<Home, Status>) -> Result<(), Status> {
    backend.unpacker.clean_up(msg::CleanUpRequest { snapshotter: home?.snapshotter }).await?;
    Ok(())
}

fn to_info(home: &Home, snapshot: Snapshot) -> api::Info {
    let kind = match snapshot.kind() {
        Kind::Unknown => api::Kind::Unknown,
        Kind::View => api::Kind::View,
        Kind::Active => api::Kind::Active,
        Kind::Committed => api::Kind::Committed,
    };
    api::Info {
        name: snapshot.name,
        parent: snapshot.parent,
        kind: kind.into(),
        created_at: timestamp(snapshot.created_at),
        updated_at: timestamp(snapshot.updated_at),
        labels: home.shown(snapshot.labels),
    }
}

pub(super) fn to_mount(mount: Mount) -> types::Mount {
    types::Mount { r#type: mount.r#type, source: mount.source, target: String::new(), options: mount.options }
}

struct Record<'a>(&'a Snapshot);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name"] => Some(self.0.name.as_str().into()),
            ["parent"] => Some(self.0.parent.as_str().into()),
            ["kind"] => Some(self.0.kind().word().into()),
            ["labels", key @ ..] => filter::label(&self.0.labels, key),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_as_a_table() {
        let given = Labels::from([("a".to_owned(), "1".to_owned()), ("b.c/d".to_owned(), "2".to_owned())]);
        let one = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
        for (paths, expected) in [
            (&[][..], Some((given.clone(), true))),
            (&["labels"], Some((given.clone(), true))),
            (&["labels", "labels.a"], Some((given.clone(), true))),
            (&["labels.b.c/d"], Some((one("b.c/d", "2"), false))),
            (&["labels.gone"], Some((one("gone", ""), false))),
            (&["parent"], None),
            (&["labels", "kind"], None),
            (&["labels.a", "name"], None),
        ] {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(changes(given.clone(), &paths).ok(), expected, "{paths:?}");
        }
    }
}
