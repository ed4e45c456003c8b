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
        /// Waits for a pull that is named.
        attach_pull(msg::AttachPullRequest);
        /// Cancels a pull.
        cancel_pull(msg::CancelPullRequest);
        /// A page of pulls.
        list_pulls(msg::ListPullsRequest);
        /// The pulls of now; waits for news.
        watch_pulls(msg::WatchPullsRequest) within |request| long_poll(request.wait_ms);
        /// How to reach the registry for a running pull.
        get_access(msg::GetAccessRequest);
    }
}
