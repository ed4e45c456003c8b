//! The contract, method by method: each is check → decide → act, in the file of its noun.

mod collection;
mod containers;
mod contents;
mod events;
mod images;
mod leases;
mod measure;
mod namespaces;
mod pulls;
mod snapshots;
mod state;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use berth_api::metadata::Metadata;
use berth_bus::Bus;
use berth_model::Status;
use berth_wire::metadata as msg;
use tokio::task::JoinHandle;

use crate::{Config, EventEncoding, relay, store::Store};

/// Longest wait of one call; who wants to wait longer asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The metadata service over one store. The store closes when the last handle is dropped.
pub struct Service {
    store: Arc<Store>,
    relay: OnceLock<JoinHandle<((), ())>>,
    event_encoding: EventEncoding,
    states: state::States,
    leader: pulls::Leader,
}

impl Service {
    pub(crate) async fn open(config: Config) -> Result<Arc<Self>, Status> {
        let event_encoding = config.event_encoding;
        let store = Arc::new(Store::open(config).await?);
        let states = state::States::default();
        let leader = pulls::Leader::default();
        Ok(Arc::new(Self { store, relay: OnceLock::new(), event_encoding, states, leader }))
    }

    /// Publishes the outbox on the bus for as long as the service lives. The first call counts.
    pub async fn relay_to(&self, bus: Bus) -> Result<(), Status> {
        self.store.begin_relay().await?;
        self.relay.get_or_init(|| {
            let publishing = relay::run(Arc::clone(&self.store), bus.clone(), self.event_encoding);
            tokio::spawn(async { tokio::join!(publishing, relay::count_readers(bus)) })
        });
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.get() {
            relay.abort();
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

#[async_trait]
impl Metadata for Service {
    async fn get_image(&self, request: msg::GetImageRequest) -> Result<msg::Image, Status> {
        images::get(&self.store, request).await
    }
    async fn list_images(&self, request: msg::ListImagesRequest) -> Result<msg::ListImagesReply, Status> {
        images::list(&self.store, request).await
    }
    async fn put_image(&self, request: msg::PutImageRequest) -> Result<msg::Image, Status> {
        images::put(&self.store, request).await
    }
    async fn delete_image(&self, request: msg::DeleteImageRequest) -> Result<msg::DeleteImageReply, Status> {
        images::delete(&self.store, request).await
    }
    async fn update_image(&self, request: msg::UpdateImageRequest) -> Result<msg::Image, Status> {
        images::update(&self.store, request).await
    }

    async fn get_content(&self, request: msg::GetContentRequest) -> Result<msg::Content, Status> {
        contents::get(&self.store, request).await
    }
    async fn list_content(&self, request: msg::ListContentRequest) -> Result<msg::ListContentReply, Status> {
        contents::list(&self.store, request).await
    }
    async fn known_contents(&self, request: msg::KnownContentsRequest) -> Result<msg::KnownContentsReply, Status> {
        contents::known(&self.store, request).await
    }
    async fn put_content(&self, request: msg::PutContentRequest) -> Result<msg::PutContentReply, Status> {
        contents::put(&self.store, request).await
    }
    async fn update_content(&self, request: msg::UpdateContentRequest) -> Result<msg::Content, Status> {
        contents::update(&self.store, request).await
    }
    async fn delete_content(&self, request: msg::DeleteContentRequest) -> Result<msg::DeleteContentReply, Status> {
        contents::delete(&self.store, request).await
    }
    async fn condemn_content(&self, request: msg::CondemnContentRequest) -> Result<msg::CondemnContentReply, Status> {
        contents::condemn(&self.store, request).await
    }
    async fn absolve_content(&self, request: msg::AbsolveContentRequest) -> Result<msg::AbsolveContentReply, Status> {
        contents::absolve(&self.store, request).await
    }

    async fn create_lease(&self, request: msg::CreateLeaseRequest) -> Result<msg::Lease, Status> {
        leases::create(&self.store, request).await
    }
    async fn delete_lease(&self, request: msg::DeleteLeaseRequest) -> Result<msg::DeleteLeaseReply, Status> {
        leases::delete(&self.store, request).await
    }
    async fn add_lease_resources(
        &self,
        request: msg::AddLeaseResourcesRequest,
    ) -> Result<msg::AddLeaseResourcesReply, Status> {
        leases::add(&self.store, request).await
    }
    async fn list_leases(&self, request: msg::ListLeasesRequest) -> Result<msg::ListLeasesReply, Status> {
        leases::list(&self.store, request).await
    }
    async fn get_lease(&self, request: msg::GetLeaseRequest) -> Result<msg::Lease, Status> {
        leases::get(&self.store, request).await
    }
    async fn renew_lease(&self, request: msg::RenewLeaseRequest) -> Result<msg::Lease, Status> {
        leases::renew(&self.store, request).await
    }
    async fn delete_lease_resources(
        &self,
        request: msg::DeleteLeaseResourcesRequest,
    ) -> Result<msg::DeleteLeaseResourcesReply, Status> {
        leases::take_off(&self.store, request).await
    }
    async fn mark(&self, request: msg::MarkRequest) -> Result<msg::MarkReply, Status> {
        collection::mark(&self.store, request).await
    }
    async fn watch_mark(&self, request: msg::WatchMarkRequest) -> Result<msg::WatchMarkReply, Status> {
        let wait = Duration::from_millis(request.wait_ms.into()).min(LONGEST_WAIT);
        collection::watch(&self.store, &request.mark_id, wait).await
    }
    async fn list_garbage(&self, request: msg::ListGarbageRequest) -> Result<msg::ListGarbageReply, Status> {
        collection::list(&self.store, request).await
    }
    async fn sweep(&self, request: msg::SweepRequest) -> Result<msg::SweepReply, Status> {
        collection::sweep(&self.store, request).await
    }
    async fn end_mark(&self, request: msg::EndMarkRequest) -> Result<msg::EndMarkReply, Status> {
        collection::end(&self.store, request).await
    }
    async fn list_unnamed(&self, request: msg::ListUnnamedRequest) -> Result<msg::ListUnnamedReply, Status> {
        collection::unnamed(&self.store, request).await
    }
    async fn watch_activity(&self, request: msg::WatchActivityRequest) -> Result<msg::Activity, Status> {
        let wait = Duration::from_millis(request.wait_ms.into()).min(LONGEST_WAIT);
        Ok(self.store.activity().wait(request.mutations, request.deletions, wait).await)
    }
    async fn measure_images(&self, request: msg::MeasureImagesRequest) -> Result<msg::MeasureImagesReply, Status> {
        measure::images(&self.store, request).await
    }
    async fn measure_records(&self, _: msg::MeasureRecordsRequest) -> Result<msg::MeasureRecordsReply, Status> {
        measure::records(&self.store).await
    }
    async fn explain(&self, request: msg::ExplainRequest) -> Result<msg::ExplainReply, Status> {
        collection::explain(&self.store, request).await
    }
    async fn known_snapshots(&self, request: msg::KnownSnapshotsRequest) -> Result<msg::KnownSnapshotsReply, Status> {
        collection::known(&self.store, request).await
    }
    async fn leased(&self, request: msg::LeasedRequest) -> Result<msg::LeasedReply, Status> {
        collection::leased(&self.store, request).await
    }
    async fn condemn_contents(
        &self,
        request: msg::CondemnContentsRequest,
    ) -> Result<msg::CondemnContentsReply, Status> {
        collection::condemn(&self.store, request).await
    }
    async fn absolve_contents(
        &self,
        request: msg::AbsolveContentsRequest,
    ) -> Result<msg::AbsolveContentsReply, Status> {
        collection::absolve(&self.store, request).await
    }

    async fn prepare_snapshot(
        &self,
        request: msg::PrepareSnapshotRequest,
    ) -> Result<msg::PrepareSnapshotReply, Status> {
        snapshots::prepare(&self.store, request).await
    }
    async fn prepare_snapshots(
        &self,
        request: msg::PrepareSnapshotsRequest,
    ) -> Result<msg::PrepareSnapshotsReply, Status> {
        snapshots::prepare_all(&self.store, request).await
    }
    async fn commit_snapshot(&self, request: msg::CommitSnapshotRequest) -> Result<msg::Snapshot, Status> {
        snapshots::commit(&self.store, request).await
    }
    async fn commit_snapshots(
        &self,
        request: msg::CommitSnapshotsRequest,
    ) -> Result<msg::CommitSnapshotsReply, Status> {
        snapshots::commit_all(&self.store, request).await
    }
    async fn remove_snapshot(&self, request: msg::RemoveSnapshotRequest) -> Result<msg::Snapshot, Status> {
        snapshots::remove(&self.store, request).await
    }
    async fn stat_snapshot(&self, request: msg::StatSnapshotRequest) -> Result<msg::StatSnapshotReply, Status> {
        snapshots::stat(&self.store, request).await
    }
    async fn stat_snapshots(&self, request: msg::StatSnapshotsRequest) -> Result<msg::StatSnapshotsReply, Status> {
        snapshots::stat_all(&self.store, request).await
    }
    async fn list_snapshots(&self, request: msg::ListSnapshotsRequest) -> Result<msg::ListSnapshotsReply, Status> {
        snapshots::list(&self.store, request).await
    }
    async fn update_snapshot(&self, request: msg::UpdateSnapshotRequest) -> Result<msg::Snapshot, Status> {
        snapshots::update(&self.store, request).await
    }

    async fn list_namespaces(&self, request: msg::ListNamespacesRequest) -> Result<msg::ListNamespacesReply, Status> {
        namespaces::list(&self.store, request).await
    }
    async fn get_namespace(&self, request: msg::GetNamespaceRequest) -> Result<msg::Namespace, Status> {
        namespaces::get(&self.store, request).await
    }
    async fn create_namespace(&self, request: msg::CreateNamespaceRequest) -> Result<msg::Namespace, Status> {
        namespaces::create(&self.store, request).await
    }
    async fn update_namespace(&self, request: msg::UpdateNamespaceRequest) -> Result<msg::Namespace, Status> {
        namespaces::update(&self.store, request).await
    }
    async fn delete_namespace(
        &self,
        request: msg::DeleteNamespaceRequest,
    ) -> Result<msg::DeleteNamespaceReply, Status> {
        namespaces::delete(&self.store, request).await
    }

    async fn get_container(&self, request: msg::GetContainerRequest) -> Result<msg::Container, Status> {
        containers::get(&self.store, request).await
    }
    async fn list_containers(&self, request: msg::ListContainersRequest) -> Result<msg::ListContainersReply, Status> {
        containers::list(&self.store, request).await
    }
    async fn create_container(&self, request: msg::CreateContainerRequest) -> Result<msg::Container, Status> {
        containers::create(&self.store, request).await
    }
    async fn update_container(&self, request: msg::UpdateContainerRequest) -> Result<msg::Container, Status> {
        containers::update(&self.store, request).await
    }
    async fn delete_container(
        &self,
        request: msg::DeleteContainerRequest,
    ) -> Result<msg::DeleteContainerReply, Status> {
        containers::delete(&self.store, request).await
    }

    async fn publish_event(&self, request: msg::PublishEventRequest) -> Result<msg::PublishEventReply, Status> {
        events::publish(&self.store, request).await
    }
    async fn read_state(&self, request: msg::ReadStateRequest) -> Result<msg::ReadStateReply, Status> {
        self.states.read(&self.store, request).await
    }
    async fn read_events(&self, request: msg::ReadEventsRequest) -> Result<msg::ReadEventsReply, Status> {
        events::read(&self.store, request).await
    }
}
