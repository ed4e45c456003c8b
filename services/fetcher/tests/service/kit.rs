//! A whole fetcher on a bus, with a registry that holds one blob.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use berth_api::{content::Content, transfer::Transfer};
use berth_bus::{Bus, Serving};
use berth_fetcher::{ClientOptions, Config};
use berth_model::{Descriptor, Digest, Status};
use berth_testing::{
    hostile::{Faults, HostileRegistry},
    image::random_bytes,
};
use berth_wire::{
    fetcher::{Access, FetchJob, FetchOutcome},
    transfer as msg,
};

use crate::content::Store;

/// Knows the pulls `p` and `late` of the user `me`; of `late` that is not known when it is asked for the first time.
#[derive(Default)]
struct Pulls {
    asked: AtomicBool,
}

#[async_trait]
impl Transfer for Pulls {
    async fn get_access(&self, request: msg::GetAccessRequest) -> Result<Access, Status> {
        match request.pull_id.as_str() {
            "p" => {}
            "late" if self.asked.swap(true, Ordering::Relaxed) => {}
            "late" => return Ok(Access { plain_http: true, ..Access::default() }),
            _ => return Err(Status::not_found("no such pull")),
        }
        Ok(Access { username: "me".to_owned(), secret: "x".to_owned(), plain_http: true })
    }

    async fn start_pull(&self, _: msg::StartPullRequest) -> Result<msg::StartPullReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn watch_pull(&self, _: msg::WatchPullRequest) -> Result<msg::PullState, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn leave_pull(&self, _: msg::LeavePullRequest) -> Result<msg::LeavePullReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn attach_pull(&self, _: msg::AttachPullRequest) -> Result<msg::StartPullReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn cancel_pull(&self, _: msg::CancelPullRequest) -> Result<msg::CancelPullReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_pulls(&self, _: msg::ListPullsRequest) -> Result<msg::ListPullsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn watch_pulls(&self, _: msg::WatchPullsRequest) -> Result<msg::WatchPullsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}

pub(crate) struct Node {
    pub(crate) bus: Bus,
    pub(crate) store: Arc<Store>,
    pub(crate) registry: HostileRegistry,
    pub(crate) blob: Vec<u8>,
    pub(crate) layer: Descriptor,
    _serving: Vec<Serving>,
}

impl Node {
    pub(crate) async fn new(faults: Faults) -> Self {
        Self::of_size(3_000_000, faults).await
    }

    /// One whose blob has so many bytes.
    pub(crate) async fn of_size(size: usize, faults: Faults) -> Self {
        let bus = Bus::in_process();
        let store = Arc::new(Store::new());
        let contract: Arc<dyn Content> = store.clone();
        let mut serving = berth_api::content::serve(&bus, contract).await.unwrap();
        serving.extend(berth_api::transfer::serve(&bus, Arc::new(Pulls::default())).await.unwrap());
        let config = Config {
            client: ClientOptions {
                backoff_min: Duration::from_millis(1),
                backoff_max: Duration::from_millis(5),
                stall_timeout: Duration::from_millis(300),
                sign_of_life: Duration::from_millis(50),
                ..ClientOptions::default()
            },
            ..Config::default()
        };
        serving.extend(berth_fetcher::start(&bus, config).await.unwrap());
        let registry = HostileRegistry::start(faults).await;
        let blob = random_bytes(size, 3);
        registry.add_blob(blob.clone());
        let layer = Descriptor::new("application/vnd.oci.image.layer.v1.tar", Digest::of(&blob), blob.len() as u64);
        Self { bus, store, registry, blob, layer, _serving: serving }
    }

    pub(crate) fn job(&self) -> FetchJob {
        FetchJob {
            pull_id: "p".to_owned(),
            reference: self.registry.reference("some/image", "v1"),
            descriptor: Some((&self.layer).into()),
            plain_http: true,
        }
    }

    pub(crate) async fn fetch(&self) -> Result<FetchOutcome, Status> {
        self.bus.submit(self.job()).await?.outcome().await
    }
}
