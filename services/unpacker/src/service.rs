//! The calls of the contract, and what most of them need of snapshots.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use berth_api::{
    blocking,
    content::{Content, ContentClient},
    metadata::{Metadata, MetadataClient},
    unpacker::Unpacker,
};
use berth_bus::Bus;
use berth_model::{Code, Status};
use berth_wire::{
    convert,
    metadata::{
        AddLeaseResourcesRequest, Resource, Snapshot, StatSnapshotReply, StatSnapshotRequest, StatSnapshotsRequest,
        snapshot::Kind,
    },
    types::{Descriptor, Usage},
    unpacker as msg,
};
use tokio::sync::Semaphore;

use crate::{
    Config,
    layout::Layout,
    memory::{self, Memory},
    orphans,
    refusals::Refusals,
    shares::Shares,
    snapshotter::Snapshotter,
    writers::Writers,
};

/// Directories erased at once.
const ERASERS: usize = 2;

/// The unpacker.
pub struct Service {
    content: Arc<dyn Content>,
    metadata: Arc<dyn Metadata>,
    snapshotters: Vec<Snapshotter>,
    flush: bool,
    sync_remove: bool,
    erasers: Arc<Semaphore>,
    writers: Arc<Writers>,
    refusals: Arc<Refusals>,
    shares: Arc<Shares>,
    memory: Arc<Memory>,
    forgetting: Arc<AtomicBool>,
}

impl Service {
    /// An unpacker that finds the other services on this bus.
    #[must_use]
    pub fn new(bus: &Bus, config: &Config) -> Self {
        let snapshotters = Snapshotter::all(config);
        let layouts = snapshotters.iter().map(|snapshotter| snapshotter.layout().clone()).collect();
        let refusals = Arc::new(Refusals::of(layouts));
        let writers = Writers::new(config.writers, config.flush.then(|| Arc::clone(&refusals)));
        // Where nobody waits for the disk in the end, nobody should before.
        let writers = if config.bypass && config.flush { writers.bypassing() } else { writers };
        Self {
            content: Arc::new(ContentClient::new(bus.clone())),
            metadata: Arc::new(MetadataClient::new(bus.clone())),
            snapshotters,
            flush: config.flush,
            sync_remove: config.sync_remove,
            erasers: Arc::new(Semaphore::new(ERASERS)),
            writers: Arc::new(writers),
            refusals,
            shares: Arc::default(),
            memory: Arc::default(),
            forgetting: Arc::default(),
        }
    }

    pub(crate) fn content(&self) -> Arc<dyn Content> {
        Arc::clone(&self.content)
    }

    pub(crate) fn metadata(&self) -> &Arc<dyn Metadata> {
        &self.metadata
    }

    pub(crate) fn flush(&self) -> bool {
        self.flush
    }

    pub(crate) fn snapshotters(&self) -> &[Snapshotter] {
        &self.snapshotters
    }

    /// Who makes the files of layers.
    pub(crate) fn writers(&self) -> Arc<Writers> {
        Arc::clone(&self.writers)
    }

    /// What the disk refused of what was unpacked.
    pub(crate) fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }

    /// How layers share the processors.
    pub(crate) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    /// What is remembered of committed layers.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Has what is remembered of committed layers forgotten when nobody needs it any more.
    pub(crate) fn forget_later(&self) {
        if self.forgetting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (memory, forgetting) = (Arc::clone(&self.memory), Arc::clone(&self.forgetting));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(memory::KEPT).await;
                if memory.forget_unused(memory::KEPT) {
                    break;
                }
            }
            forgetting.store(false, Ordering::Release);
        });
    }

    /// The snapshotter of this name.
    pub(crate) fn snapshotter(&self, name: &str) -> Result<Snapshotter, Status> {
        self.snapshotters.iter().find(|known| known.name() == name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.snapshotters.iter().map(Snapshotter::name).collect();
            Status::invalid_argument(format!("there is no snapshotter {name:?}; there are {known:?}"))
        })
    }

    /// Where things are kept for the time of a call.
    pub(crate) fn scratch_layout(&self) -> Result<Layout, Status> {
        let first = self.snapshotters.first().ok_or_else(|| Status::internal("there is no snapshotter"))?;
        Ok(first.layout().clone())
    }

    /// Erases, in the background, what calls that died had for their time. What removals left is for the collector.
    pub(crate) fn sweep(&self) {
        for snapshotter in self.snapshotters.clone() {
            self.in_background(move || snapshotter.layout().sweep_scratch());
        }
    }

    /// Removes the directory of a snapshot that has no record any more: its name at once, what is in it by and by.
    pub(crate) async fn erase(&self, snapshotter: Snapshotter, id: u64) -> Result<(), Status> {
        let trees = snapshotter.clone();
        if self.sync_remove {
            return blocking(move || trees.layout().remove(id)).await;
        }
        blocking(move || trees.layout().doom(id)).await?;
        self.in_background(move || snapshotter.layout().finish(id));
        Ok(())
    }

    fn in_background(&self, work: impl FnOnce() -> Result<(), Status> + Send + 'static) {
        let erasers = Arc::clone(&self.erasers);
        tokio::spawn(async move {
            let Ok(_one) = erasers.acquire_owned().await else { return };
            if let Err(status) = blocking(work).await {
                tracing::warn!(%status, "what a removal left stays for the next cleanup");
            }
        });
    }

    /// Puts an unpacking under the lease of the job's pull.
    pub(crate) async fn keep(&self, job: &msg::UnpackJob, key: &str) -> Result<(), Status> {
        if job.lease.is_empty() {
            return Ok(());
        }
        let resource = Resource { r#type: format!("snapshots/{}", job.snapshotter), id: key.to_owned() };
        let request = AddLeaseResourcesRequest {
            namespace: job.namespace.clone(),
            id: job.lease.clone(),
            resources: vec![resource],
        };
        self.metadata.add_lease_resources(request).await.map(drop)
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

    /// Those of these snapshots that there are: their ids by name.
    pub(crate) async fn there(
        &self,
        namespace: &str,
        snapshotter: &str,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<HashMap<String, u64>, Status> {
        let keys = keys.into_iter().collect();
        let request = StatSnapshotsRequest { namespace: namespace.into(), snapshotter: snapshotter.into(), keys };
        let found = self.metadata.stat_snapshots(request).await?;
        Ok(found.snapshots.into_iter().map(|snapshot| (snapshot.name, snapshot.id)).collect())
    }

    pub(crate) async fn existing(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &str,
    ) -> Result<(Snapshot, Vec<u64>), Status> {
        let found = self.stat(namespace, snapshotter, key).await?;
        let found =
            found.ok_or_else(|| Status::not_found(format!("snapshot {key:?} in namespace {namespace:?} not found")))?;
        Ok((convert::required(found.snapshot.as_ref(), "snapshot")?.clone(), found.parent_ids))
    }

    /// The ids of the chain that ends in this snapshot, which must be committed.
    pub(crate) async fn committed_chain(
        &self,
        namespace: &str,
        snapshotter: &str,
        name: &str,
    ) -> Result<Vec<u64>, Status> {
        let (snapshot, parents) = self.existing(namespace, snapshotter, name).await?;
        if snapshot.kind() != Kind::Committed {
            let kind = snapshot.kind().word();
            return Err(Status::invalid_argument(format!("parent snapshot {name:?} is {kind}, not committed")));
        }
        Ok(std::iter::once(snapshot.id).chain(parents).collect())
    }

    /// The ids of a committed chain, newest first.
    pub(crate) async fn chain(&self, namespace: &str, snapshotter: &str, name: &str) -> Result<Vec<u64>, Status> {
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let (snapshot, parents) = self.existing(namespace, snapshotter, name).await?;
        Ok(std::iter::once(snapshot.id).chain(parents).collect())
    }
}

#[async_trait::async_trait]
impl Unpacker for Service {
    async fn prepare_mounts(&self, request: msg::PrepareMountsRequest) -> Result<msg::MountsReply, Status> {
        self.prepare(request).await
    }

    async fn get_mounts(&self, request: msg::GetMountsRequest) -> Result<msg::MountsReply, Status> {
        self.mounts(request).await
    }

    async fn commit_active(&self, request: msg::CommitActiveRequest) -> Result<Snapshot, Status> {
        self.commit(request).await
    }

    async fn remove_tree(&self, request: msg::RemoveTreeRequest) -> Result<msg::RemoveTreeReply, Status> {
        self.remove(&request.namespace, &request.snapshotter, &request.key, 0).await?;
        Ok(msg::RemoveTreeReply {})
    }

    async fn get_usage(&self, request: msg::GetUsageRequest) -> Result<Usage, Status> {
        self.usage(request).await
    }

    async fn stat_tree(&self, request: msg::StatTreeRequest) -> Result<Snapshot, Status> {
        self.stat_one(request).await
    }

    async fn list_trees(&self, request: msg::ListTreesRequest) -> Result<msg::ListTreesReply, Status> {
        self.list(request).await
    }

    async fn update_tree(&self, request: msg::UpdateTreeRequest) -> Result<Snapshot, Status> {
        self.update(request).await
    }

    async fn clean_up(&self, request: msg::CleanUpRequest) -> Result<msg::CleanUpReply, Status> {
        self.clean(request).await
    }

    async fn list_snapshotters(&self, _: msg::ListSnapshottersRequest) -> Result<msg::ListSnapshottersReply, Status> {
        Ok(self.describe())
    }

    async fn diff_mounts(&self, request: msg::DiffMountsRequest) -> Result<Descriptor, Status> {
        self.diff(request).await
    }

    async fn apply_layer(&self, request: msg::ApplyLayerRequest) -> Result<msg::ApplyLayerReply, Status> {
        self.apply(request).await
    }

    async fn commit_layers(&self, request: msg::CommitLayersRequest) -> Result<msg::CommitLayersReply, Status> {
        self.commit_stack(request).await
    }

    async fn check_host(&self, request: msg::CheckHostRequest) -> Result<msg::CheckHostReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        blocking(move || snapshotter.check()).await?;
        Ok(msg::CheckHostReply {})
    }

    async fn remove_orphans(&self, request: msg::RemoveOrphansRequest) -> Result<msg::RemoveOrphansReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        orphans::remove(self.metadata.as_ref(), snapshotter.layout(), request).await
    }

    async fn verify_snapshot(&self, request: msg::VerifySnapshotRequest) -> Result<msg::VerifySnapshotReply, Status> {
        self.verify(request).await
    }

    async fn measure_snapshots(
        &self,
        request: msg::MeasureSnapshotsRequest,
    ) -> Result<msg::MeasureSnapshotsReply, Status> {
        orphans::measure(self.snapshotter(&request.snapshotter)?.layout().clone()).await
    }
}
