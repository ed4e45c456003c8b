//! The calls of the contract: snapshots prepared, mounted, committed and removed; unpacked layers committed in their order.

use std::{path::PathBuf, sync::Arc, time::Duration};

use berth_api::{
    blocking,
    content::{Content, ContentClient},
    metadata::{Metadata, MetadataClient},
    unpacker::Unpacker,
};
use berth_bus::Bus;
use berth_model::{Code, Status, labels};
use berth_wire::{
    convert,
    metadata::{
        CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, Snapshot, StatSnapshotReply,
        StatSnapshotRequest, snapshot::Kind,
    },
    types::Usage,
    unpacker::{self as msg, LayerCommit},
};

use crate::{
    Config,
    lock::Lock,
    overlay::{self, Overlay},
    rebase::rebase,
    unpacked::Unpacked,
    writers::Writers,
};

/// How long a commit waits for another one of the same snapshot, which another process may be doing.
const PATIENCE: Duration = Duration::from_secs(20);

/// The unpacker.
pub struct Service {
    content: Arc<dyn Content>,
    metadata: Arc<dyn Metadata>,
    overlay: Overlay,
    flush: bool,
    writers: Arc<Writers>,
}

impl Service {
    /// An unpacker that finds the other services on this bus.
    #[must_use]
    pub fn new(bus: &Bus, config: &Config) -> Self {
        Self {
            content: Arc::new(ContentClient::new(bus.clone())),
            metadata: Arc::new(MetadataClient::new(bus.clone())),
            overlay: Overlay::new(&config.root.join(overlay::NAME)),
            flush: config.flush,
            writers: Arc::new(Writers::new(config.writers, config.flush)),
        }
    }

    pub(crate) fn content(&self) -> Arc<dyn Content> {
        Arc::clone(&self.content)
    }

    pub(crate) fn metadata(&self) -> &Arc<dyn Metadata> {
        &self.metadata
    }

    /// Who makes the files of layers.
    pub(crate) fn writers(&self) -> Arc<Writers> {
        Arc::clone(&self.writers)
    }

    /// The snapshotter of this name.
    pub(crate) fn overlay(&self, snapshotter: &str) -> Result<Overlay, Status> {
        match snapshotter {
            overlay::NAME => Ok(self.overlay.clone()),
            other => Err(Status::invalid_argument(format!(
                "there is no snapshotter {other:?}; there is {:?}",
                overlay::NAME
            ))),
        }
    }

    /// A snapshot's record; `None` if there is none.
    pub(crate) async fn stat(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &str,
    ) -> Result<Option<StatSnapshotReply>, Status> {
        let request =
            StatSnapshotRequest { namespace: namespace.into(), snapshotter: snapshotter.into(), key: key.into() };
        match self.metadata.stat_snapshot(request).await {
            Ok(found) => Ok(Some(found)),
            Err(status) if status.code == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn existing(&self, namespace: &str, snapshotter: &str, key: &str) -> Result<(Snapshot, Vec<u64>), Status> {
        let found = self.stat(namespace, snapshotter, key).await?;
        let found =
            found.ok_or_else(|| Status::not_found(format!("snapshot {key:?} in namespace {namespace:?} not found")))?;
        Ok((convert::required(found.snapshot.as_ref(), "snapshot")?.clone(), found.parent_ids))
    }

    /// The ids of a committed chain, newest first.
    async fn chain(&self, namespace: &str, snapshotter: &str, name: &str) -> Result<Vec<u64>, Status> {
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let (snapshot, parents) = self.existing(namespace, snapshotter, name).await?;
        Ok(std::iter::once(snapshot.id).chain(parents).collect())
    }

    async fn remove(&self, namespace: &str, snapshotter: &str, key: &str) -> Result<(), Status> {
        let overlay = self.overlay(snapshotter)?;
        let request =
            RemoveSnapshotRequest { namespace: namespace.into(), snapshotter: snapshotter.into(), key: key.into() };
        let removed = self.metadata.remove_snapshot(request).await?;
        blocking(move || overlay.remove(removed.id)).await
    }
}

#[async_trait::async_trait]
impl Unpacker for Service {
    async fn prepare_mounts(&self, request: msg::PrepareMountsRequest) -> Result<msg::MountsReply, Status> {
        let overlay = self.overlay(&request.snapshotter)?;
        overlay.check()?;
        let kind = if request.view { Kind::View } else { Kind::Active };
        let prepared = self
            .metadata
            .prepare_snapshot(PrepareSnapshotRequest {
                namespace: request.namespace,
                snapshotter: request.snapshotter,
                key: request.key,
                parent: request.parent,
                kind: kind.into(),
                labels: request.labels,
                ..PrepareSnapshotRequest::default()
            })
            .await?;
        let id = convert::required(prepared.snapshot.as_ref(), "snapshot")?.id;
        let parents = prepared.parent_ids;
        blocking(move || {
            overlay.make(id, parents.first().copied())?;
            Ok(msg::MountsReply { mounts: overlay.mounts(id, &parents, request.view) })
        })
        .await
    }

    async fn get_mounts(&self, request: msg::GetMountsRequest) -> Result<msg::MountsReply, Status> {
        let overlay = self.overlay(&request.snapshotter)?;
        let (snapshot, parents) = self.existing(&request.namespace, &request.snapshotter, &request.key).await?;
        if snapshot.kind() == Kind::Committed {
            return Err(Status::failed_precondition(format!(
                "snapshot {:?} is committed and has no mounts of its own; prepare or view one on it",
                request.key
            )));
        }
        blocking(move || {
            // A crash between the record and the directories leaves an empty snapshot, which is what it is.
            if !overlay.upper(snapshot.id).exists() {
                overlay.make(snapshot.id, parents.first().copied())?;
            }
            Ok(msg::MountsReply { mounts: overlay.mounts(snapshot.id, &parents, snapshot.kind() == Kind::View) })
        })
        .await
    }

    async fn commit_active(&self, request: msg::CommitActiveRequest) -> Result<Snapshot, Status> {
        let overlay = self.overlay(&request.snapshotter)?;
        let (snapshot, _) = self.existing(&request.namespace, &request.snapshotter, &request.key).await?;
        let flush = self.flush;
        let usage = blocking(move || {
            if flush {
                overlay.flush(snapshot.id)?;
            }
            overlay.usage(snapshot.id)
        })
        .await?;
        self.metadata
            .commit_snapshot(CommitSnapshotRequest {
                namespace: request.namespace,
                snapshotter: request.snapshotter,
                key: request.key,
                name: request.name,
                labels: request.labels,
                usage: Some(usage),
                id: snapshot.id,
                ..CommitSnapshotRequest::default()
            })
            .await
    }

    async fn remove_tree(&self, request: msg::RemoveTreeRequest) -> Result<msg::RemoveTreeReply, Status> {
        self.remove(&request.namespace, &request.snapshotter, &request.key).await?;
        Ok(msg::RemoveTreeReply {})
    }

    async fn get_usage(&self, request: msg::GetUsageRequest) -> Result<Usage, Status> {
        let overlay = self.overlay(&request.snapshotter)?;
        let (snapshot, _) = self.existing(&request.namespace, &request.snapshotter, &request.key).await?;
        match (snapshot.kind(), snapshot.usage) {
            (Kind::Committed, Some(usage)) => Ok(usage),
            _ => blocking(move || overlay.usage(snapshot.id)).await,
        }
    }

    async fn commit_layers(&self, request: msg::CommitLayersRequest) -> Result<msg::CommitLayersReply, Status> {
        let overlay = self.overlay(&request.snapshotter)?;
        let (namespace, snapshotter) = (request.namespace.as_str(), request.snapshotter.as_str());
        let mut settled: Vec<(LayerCommit, Usage)> = Vec::new();
        let mut below: Option<(String, Vec<u64>)> = None;
        let mut locks = Vec::new();
        for layer in request.layers {
            // A call that got lost is sent again, perhaps to another unpacker: the second waits, and finds it done.
            locks.extend(Lock::on_dir(&overlay.dir(layer.id), PATIENCE).await?);
            let mut chain = match below.take() {
                Some((name, chain)) if name == layer.parent => chain,
                _ => self.chain(namespace, snapshotter, &layer.parent).await?,
            };
            if let Some(found) = self.stat(namespace, snapshotter, &layer.chain_id).await? {
                // Somebody else was faster; ours is not needed.
                self.drop_unneeded(namespace, snapshotter, &layer).await;
                chain.insert(0, convert::required(found.snapshot.as_ref(), "snapshot")?.id);
                below = Some((layer.chain_id, chain));
                continue;
            }
            let usage = settle(overlay.clone(), layer.id, chain.clone()).await?;
            chain.insert(0, layer.id);
            below = Some((layer.chain_id.clone(), chain));
            settled.push((layer, usage));
        }
        if let (true, Some((last, _))) = (self.flush, settled.last()) {
            let (overlay, id) = (overlay.clone(), last.id);
            blocking(move || overlay.flush(id)).await?;
        }
        for (layer, usage) in settled {
            let (key, dir) = (layer.key.clone(), overlay.dir(layer.id));
            let committed = self
                .metadata
                .commit_snapshot(CommitSnapshotRequest {
                    namespace: namespace.to_owned(),
                    snapshotter: snapshotter.to_owned(),
                    key: layer.key,
                    name: layer.chain_id,
                    labels: labels::Labels::new(),
                    usage: Some(usage),
                    parent: layer.parent,
                    id: layer.id,
                })
                .await;
            match committed {
                Ok(_) => {
                    blocking(move || {
                        Unpacked::drop_kept(&dir);
                        Ok(())
                    })
                    .await?
                }
                Err(status) if status.code == Code::AlreadyExists => {
                    self.remove(namespace, snapshotter, &key).await?;
                }
                Err(status) => return Err(status),
            }
        }
        drop(locks);
        Ok(msg::CommitLayersReply {})
    }

    async fn check_host(&self, request: msg::CheckHostRequest) -> Result<msg::CheckHostReply, Status> {
        let overlay = self.overlay(&request.snapshotter)?;
        blocking(move || overlay.check()).await?;
        Ok(msg::CheckHostReply {})
    }
}

impl Service {
    async fn drop_unneeded(&self, namespace: &str, snapshotter: &str, layer: &LayerCommit) {
        let ours = match self.stat(namespace, snapshotter, &layer.key).await {
            Ok(Some(found)) => found.snapshot.is_some_and(|snapshot| snapshot.id == layer.id),
            _ => false,
        };
        if ours && let Err(status) = self.remove(namespace, snapshotter, &layer.key).await {
            tracing::debug!(%status, "an unneeded unpacking stays for the collection");
        }
    }
}

/// Settles what an unpacked layer left open, over its chain.
async fn settle(overlay: Overlay, id: u64, chain: Vec<u64>) -> Result<Usage, Status> {
    blocking(move || {
        let (dir, upper) = (overlay.dir(id), overlay.upper(id));
        let kept = Unpacked::kept(&dir)?.ok_or_else(|| {
            Status::failed_precondition(format!("{} holds no unpacked layer; pull the image again", dir.display()))
        })?;
        let residue = kept.residue;
        // A layer that says nothing of its root shows the one below it.
        let says_root = residue.times.iter().any(|(place, _)| place.0.is_empty());
        let lowers: Vec<PathBuf> = chain.iter().map(|id| overlay.upper(*id)).collect();
        let settled = rebase(&upper, &lowers, residue).map_err(|error| error.status("being committed", &upper))?;
        if let (false, Some(parent)) = (says_root, chain.first()) {
            overlay.like(id, *parent)?;
        }
        Ok(Usage { inodes: settled.inodes + 1, size: settled.size + 4096 })
    })
    .await
}
