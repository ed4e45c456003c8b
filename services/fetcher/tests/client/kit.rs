//! A fast client, a sink in memory, and a registry with one image.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use berth_fetcher::{Access, BlobSink, ClientOptions, Fetched, RegistryClient};
use berth_model::{Descriptor, Digest, Reference, Status};
use berth_testing::{
    hostile::{Faults, HostileRegistry},
    image::{Image, ImageBuilder, Layer, random_bytes},
};
use bytes::Bytes;

/// Pauses too short to notice, waits short enough for a test.
pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        stall_timeout: Duration::from_millis(200),
        probe_timeout: Duration::from_millis(200),
        response_timeout: Duration::from_millis(500),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        sign_of_life: Duration::from_millis(20),
        throttled_min: Duration::from_millis(1),
        progress_bytes: 1000,
        ..ClientOptions::default()
    }
}

pub(crate) fn client() -> Arc<RegistryClient> {
    Arc::new(RegistryClient::new(options()).unwrap())
}

/// Lets others work until it is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited for {what}");
        tokio::task::yield_now().await;
    }
}

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
}

#[async_trait]
impl BlobSink for Memory {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
}

/// A registry with an image at `some/image:v1`, and one blob of 100,000 bytes.
pub(crate) struct Scene {
    pub(crate) registry: HostileRegistry,
    pub(crate) image: Image,
    pub(crate) blob: Vec<u8>,
    pub(crate) layer: Descriptor,
}

impl Scene {
    pub(crate) async fn new(faults: Faults) -> Self {
        let registry = HostileRegistry::start(faults).await;
        let image = ImageBuilder::new().layer(Layer::new().file("a", b"hello")).build();
        registry.add_image("some/image", "v1", &image);
        let blob = random_bytes(100_000, 7);
        registry.add_blob(blob.clone());
        let layer =
            Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", Digest::of(&blob), blob.len() as u64);
        Self { registry, image, blob, layer }
    }

    pub(crate) fn reference(&self) -> Reference {
        self.registry.reference("some/image", "v1").parse().unwrap()
    }

    pub(crate) fn plain() -> Access {
        Access::anonymous(true)
    }

    pub(crate) async fn resolve(&self) -> Result<Descriptor, Status> {
        client().resolve(&self.reference(), &Self::plain()).await
    }

    pub(crate) async fn resolve_as(&self, user: &str, secret: &str) -> Result<Descriptor, Status> {
        client().resolve(&self.reference(), &Access::with_user(user, secret, true)).await
    }

    /// Downloads the blob, with what is there already.
    pub(crate) async fn download_after(&self, there: usize) -> (Result<Fetched, Status>, Vec<u8>) {
        let mut sink = Memory { bytes: self.blob[..there].to_vec() };
        let done = client().fetch_into(&mut sink, &self.layer, &self.reference(), &Self::plain(), &|_| {}).await;
        (done, sink.bytes)
    }

    pub(crate) async fn download(&self) -> (Result<Fetched, Status>, Vec<u8>) {
        self.download_after(0).await
    }

    /// Asserts that the download succeeds with the right bytes.
    pub(crate) async fn downloads(&self) -> Fetched {
        let (done, bytes) = self.download().await;
        let fetched = done.unwrap();
        assert!(bytes == self.blob, "the bytes differ");
        fetched
    }

    /// The `Range` headers of the blob's requests, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.registry.seen_at("/blobs/").into_iter().map(|seen| seen.range).collect()
    }
}

/// Asserts code and parts of the message.
#[track_caller]
pub(crate) fn assert_says<T: std::fmt::Debug>(result: Result<T, Status>, code: berth_model::Code, parts: &[&str]) {
    let status = result.expect_err("should fail");
    assert_eq!(status.code, code, "{status}");
    for part in parts {
        assert!(status.message.contains(part), "{part:?} is missing in: {status}");
    }
}
