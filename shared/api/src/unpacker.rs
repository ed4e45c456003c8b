//! The unpacker service's contract.

use berth_wire::unpacker as msg;

use crate::contract::{SLOW, contract};

contract! {
    /// See `proto/berth/unpacker/v1/unpacker.proto`.
    trait Unpacker, client UnpackerClient, router serve {
        /// A new active snapshot or view, with its mounts.
        prepare_mounts(msg::PrepareMountsRequest) within |_| SLOW;
        /// Mounts of an active snapshot or view.
        get_mounts(msg::GetMountsRequest) within |_| SLOW;
        /// Active becomes committed.
        commit_active(msg::CommitActiveRequest) within |_| SLOW;
        /// Drops record and directory.
        remove_tree(msg::RemoveTreeRequest) within |_| SLOW;
        /// What a snapshot holds.
        get_usage(msg::GetUsageRequest) within |_| SLOW;
        /// Commits unpacked layers, lowest first.
        commit_layers(msg::CommitLayersRequest) within |_| SLOW;
        /// Whether this service can work here.
        check_host(msg::CheckHostRequest);
        /// One snapshot, with the labels that the snapshotter adds.
        stat_tree(msg::StatTreeRequest);
        /// A page of snapshots, likewise.
        list_trees(msg::ListTreesRequest);
        /// Changes labels.
        update_tree(msg::UpdateTreeRequest);
        /// Erases what removals left.
        clean_up(msg::CleanUpRequest) within |_| SLOW;
        /// The snapshotters that there are.
        list_snapshotters(msg::ListSnapshottersRequest);
        /// What one tree has and another has not, as a layer.
        diff_mounts(msg::DiffMountsRequest) within |_| SLOW;
        /// A layer onto mounts.
        apply_layer(msg::ApplyLayerRequest) within |_| SLOW;
        /// Removes directories that no record names.
        remove_orphans(msg::RemoveOrphansRequest) within |_| SLOW;
        /// Whether a snapshot is what its layer says.
        verify_snapshot(msg::VerifySnapshotRequest) within |_| SLOW;
        /// What the snapshotter takes of its disk.
        measure_snapshots(msg::MeasureSnapshotsRequest) within |_| SLOW;
    }
}
