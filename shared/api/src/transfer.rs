//! The transfer service's contract.

use berth_wire::transfer as msg;

use crate::contract::{contract, long_poll};

contract! {
    /// See `proto/berth/transfer/v1/transfer.proto`.
    trait Transfer, client TransferClient, router serve {
        /// Begins or attaches to a pull.
        start_pull(msg::StartPullRequest);
        /// The state of a pull; waits for news.
        watch_pull(msg::WatchPullRequest) within |request| long_poll(request.wait_ms);
        /// A watcher leaves.
        leave_pull(msg::LeavePullRequest);
        /// How to reach the registry for a running pull.
        get_access(msg::GetAccessRequest);
    }
}
