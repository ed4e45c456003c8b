//! The gc service's contract.

use berth_wire::gc as msg;

use crate::contract::{SLOW, contract, long_poll};

contract! {
    /// See `proto/berth/gc/v1/gc.proto`.
    trait Gc, client GcClient, router serve {
        /// Begins a collection or a check.
        start_run(msg::StartRunRequest);
        /// What a run found and did; waits for news.
        read_run(msg::ReadRunRequest) within |request| long_poll(request.wait_ms);
        /// What keeps a thing.
        why(msg::WhyRequest) within |_| SLOW;
        /// What takes the disk.
        measure_disk(msg::MeasureDiskRequest) within |_| SLOW;
    }
}
