//! The metadata service's contract.

use std::time::Duration;

use berth_wire::metadata as msg;

use crate::contract::{MANY, contract, long_poll};

/// Reading all records of a large store takes a while.
const MARK: Duration = Duration::from_secs(600);

contract! {
    /// See `proto/berth/metadata/v1/metadata.proto`.
    trait Metadata, client MetadataClient, router serve {
        /// One image by name.
        get_image(msg::GetImageRequest);
        /// A page of images.
        list_images(msg::ListImagesRequest);
        /// Creates or replaces an image.
        put_image(msg::PutImageRequest);
        /// Drops an image.
        delete_image(msg::DeleteImageRequest);
        /// Changes fields of an image.
        update_image(msg::UpdateImageRequest);
        /// One content record.
        get_content(msg::GetContentRequest);
        /// A page of content records.
        list_content(msg::ListContentRequest);
        /// Which blobs a namespace has a record of.
        known_contents(msg::KnownContentsRequest) within |_| MANY;
        /// Records blobs, or merges their labels.
        put_content(msg::PutContentRequest);
        /// Changes labels of a content record.
        update_content(msg::UpdateContentRequest);
        /// Drops a content record.
        delete_content(msg::DeleteContentRequest);
        /// Asks for leave to delete the bytes of a blob.
        condemn_content(msg::CondemnContentRequest);
        /// Ends a condemnation.
        absolve_content(msg::AbsolveContentRequest);
        /// Begins a lease.
        create_lease(msg::CreateLeaseRequest);
        /// Ends a lease.
        delete_lease(msg::DeleteLeaseRequest);
        /// Adds resources to a lease.
        add_lease_resources(msg::AddLeaseResourcesRequest);
        /// One lease with its resources.
        get_lease(msg::GetLeaseRequest);
        /// Moves a lease's end.
        renew_lease(msg::RenewLeaseRequest);
        /// Takes resources off a lease.
        delete_lease_resources(msg::DeleteLeaseResourcesRequest);
        /// Finds what nothing refers to.
        mark(msg::MarkRequest) within |_request| MARK;
        /// Shows that a mark's collector is there.
        watch_mark(msg::WatchMarkRequest) within |request| long_poll(request.wait_ms);
        /// A page of what a mark found.
        list_garbage(msg::ListGarbageRequest);
        /// Deletes some of what a mark found.
        sweep(msg::SweepRequest);
        /// Ends a mark.
        end_mark(msg::EndMarkRequest);
        /// Which digests nothing will name after the sweep.
        list_unnamed(msg::ListUnnamedRequest);
        /// How much changed; waits for it.
        watch_activity(msg::WatchActivityRequest) within |request| long_poll(request.wait_ms);
        /// What each image keeps.
        measure_images(msg::MeasureImagesRequest) within |_request| MARK;
        /// What the store takes of its disk.
        measure_records(msg::MeasureRecordsRequest) within |_request| MARK;
        /// The references that keep a thing.
        explain(msg::ExplainRequest) within |_request| MARK;
        /// Which snapshot directories have a record.
        known_snapshots(msg::KnownSnapshotsRequest);
        /// Which things are leased.
        leased(msg::LeasedRequest);
        /// Asks for leave to delete the bytes of blobs.
        condemn_contents(msg::CondemnContentsRequest);
        /// Ends condemnations.
        absolve_contents(msg::AbsolveContentsRequest);
        /// A page of leases.
        list_leases(msg::ListLeasesRequest);
        /// Records a new active snapshot or view.
        prepare_snapshot(msg::PrepareSnapshotRequest);
        /// Records new active snapshots or views where there are none.
        prepare_snapshots(msg::PrepareSnapshotsRequest);
        /// Turns an active record into a committed one.
        commit_snapshot(msg::CommitSnapshotRequest);
        /// Turns active records into committed ones, all or none.
        commit_snapshots(msg::CommitSnapshotsRequest);
        /// Drops a snapshot record.
        remove_snapshot(msg::RemoveSnapshotRequest);
        /// One snapshot record and the ids below it.
        stat_snapshot(msg::StatSnapshotRequest);
        /// Those of some snapshots that there are.
        stat_snapshots(msg::StatSnapshotsRequest);
        /// A page of snapshot records.
        list_snapshots(msg::ListSnapshotsRequest);
        /// Merges labels of a snapshot.
        update_snapshot(msg::UpdateSnapshotRequest);
        /// A page of namespaces.
        list_namespaces(msg::ListNamespacesRequest);
        /// One namespace's labels.
        get_namespace(msg::GetNamespaceRequest);
        /// Makes a namespace.
        create_namespace(msg::CreateNamespaceRequest);
        /// Changes labels of a namespace.
        update_namespace(msg::UpdateNamespaceRequest);
        /// Ends an empty namespace.
        delete_namespace(msg::DeleteNamespaceRequest);
        /// One container.
        get_container(msg::GetContainerRequest);
        /// A page of containers.
        list_containers(msg::ListContainersRequest);
        /// Records a container.
        create_container(msg::CreateContainerRequest);
        /// Changes fields of a container.
        update_container(msg::UpdateContainerRequest);
        /// Drops a container.
        delete_container(msg::DeleteContainerRequest);
        /// Adds somebody else's event to the outbox.
        publish_event(msg::PublishEventRequest);
        /// Events after a sequence; waits for them.
        read_events(msg::ReadEventsRequest) within |request| long_poll(request.wait_ms);
        /// A page of one state of all records.
        read_state(msg::ReadStateRequest) within |_request| MARK;
    }
}
