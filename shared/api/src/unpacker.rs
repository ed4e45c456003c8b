//! The unpacker service's contract.

use berth_wire::unpacker as msg;

use crate::contract::{SLOW, contract};

contract! {
    /// See `proto/berth/unpacker/v1/unpacker.proto`.
    trait Unpacker, client UnpackerClient, router serve {
        /// A new active snapshot or view, with its mounts.
        prepare_mounts(msg::PrepareMountsRequest);
        /// Mounts of an active snapshot or view.
        get_mounts(msg::GetMountsRequest);
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
        /// Removes directories that no record names.
        remove_orphans(msg::RemoveOrphansRequest) within |_| SLOW;
        /// What the snapshotter takes of its disk.
        measure_snapshots(msg::MeasureSnapshotsRequest) within |_| SLOW;
    }
}
