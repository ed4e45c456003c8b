//! The fetcher service's contract.

use berth_wire::fetcher as msg;

use crate::contract::{SLOW, contract};

contract! {
    /// See `proto/berth/fetcher/v1/fetcher.proto`.
    trait Fetcher, client FetcherClient, router serve {
        /// What a reference names now.
        resolve(msg::ResolveRequest) within |_| SLOW;
    }
}
