//! Downloads of one blob, against registries that break in the middle.

use std::{sync::Arc, time::Duration};

use berth_fetcher::{ClientOptions, RegistryClient};
use berth_model::{Code, Descriptor, Digest, Status};
use berth_testing::hostile::{Fault, Faults};

use crate::kit::{Memory, Scene, assert_says, client, options};

#[tokio::test]
async fn a_decent_registry() {
    let scene = Scene::new(Faults::none()).await;
    let fetched = scene.downloads().await;
    assert_eq!((fetched.bytes, fetched.opened), (100_000, 1));
    let seen = scene.registry.seen();
    assert_eq!((seen.len(), seen[0].accept_encoding.as_deref()), (1, Some("identity")));
}

#[tokio::test]
async fn it_resumes_where_it_was() {
    let scene = Scene::new(Faults::none()).await;
    let (done, bytes) = scene.download_after(40_000).await;
    assert_eq!(done.unwrap().bytes, 60_000);
    assert!(bytes == scene.blob);
    assert_eq!(scene.ranges(), [Some("bytes=40000-".to_owned())]);
}

#[tokio::test]
async fn what_is_complete_is_not_asked_for() {
    let scene = Scene::new(Faults::none()).await;
    assert_eq!(scene.download_after(100_000).await.0.unwrap().opened, 0);
    assert!(scene.registry.seen().is_empty());
}

#[tokio::test]
async fn broken_bodies_are_continued() {
    for fault in
        [Fault::ResetAfter(30_000), Fault::CloseAfter(30_000), Fault::EndAfter(30_000), Fault::StallAfter(30_000)]
    {
        let scene = Scene::new(Faults::none().once("/blobs/", fault.clone())).await;
        let fetched = scene.downloads().await;
        assert_eq!((fetched.bytes, fetched.opened), (100_000, 2), "{fault:?}");
        assert_eq!(scene.ranges()[1].as_deref(), Some("bytes=30000-"), "{fault:?}");
    }
}

#[tokio::test]
async fn progress_resets_the_count() {
    let scene = Scene::new(Faults::none().always("/blobs/", Fault::ResetAfter(5_000))).await;
    let fetched = scene.downloads().await;
    assert_eq!(fetched.opened, 20);
}

#[tokio::test]
async fn no_progress_ends() {
    for fault in [Fault::ResetAfter(0), Fault::CloseAfter(0), Fault::StallAfter(0), Fault::EndAfter(0)] {
        let scene = Scene::new(Faults::none().always("/blobs/", fault.clone())).await;
        let (done, _) = scene.download().await;
        assert_says(done, Code::Unavailable, &[&scene.layer.digest.to_string(), "some/image"]);
        assert!(scene.registry.seen().len() <= 6, "{fault:?}");
    }
}

#[tokio::test]
async fn a_byte_a_connection_is_no_progress() {
    let scene = Scene::new(Faults::none().always("/blobs/", Fault::ResetAfter(1))).await;
    assert!(scene.download().await.0.is_err());
    assert!(scene.registry.seen().len() <= 6);
}

#[tokio::test]
async fn a_trickle_is_given_up() {
    let scene =
        Scene::new(Faults::none().always("/blobs/", Fault::Trickle(1, std::time::Duration::from_millis(5)))).await;
    let options = ClientOptions { trickle_window: Duration::from_millis(50), ..options() };
    let slow = Arc::new(RegistryClient::new(options).unwrap());
    let done =
        slow.fetch_into(&mut Memory::default(), &scene.layer, &scene.reference(), &Scene::plain(), &|_| {}).await;
    assert_says(done, Code::Unavailable, &["sent only"]);
}

#[tokio::test]
async fn a_short_blob_is_named_short() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.add_wrong_blob(scene.layer.digest, scene.blob[..60_000].to_vec());
    let (done, _) = scene.download().await;
    assert_says(done, Code::Unavailable, &["ended after 60000 of 100000 bytes"]);
}

#[tokio::test]
async fn a_long_blob_is_named_long() {
    for fault in [Fault::Longer(1), Fault::Longer(50_000)] {
        let scene = Scene::new(Faults::none().always("/blobs/", fault)).await;
        assert_says(
            scene.download().await.0,
            Code::FailedPrecondition,
            &["longer than its descriptor says", "> 100000 bytes"],
        );
    }
}

#[tokio::test]
async fn ranges_that_are_not_served() {
    for fault in [Fault::IgnoreRange, Fault::NoRange, Fault::LyingRange(-5), Fault::LyingRange(7)] {
        // The lie is told once per question; a registry that cannot do ranges serves the whole when asked for it.
        let scene = Scene::new(Faults::none().once("/blobs/", fault.clone())).await;
        let (done, bytes) = scene.download_after(40_000).await;
        assert_eq!(done.unwrap().bytes, 60_000, "{fault:?}");
        assert!(bytes == scene.blob, "{fault:?}");
    }
}

#[tokio::test]
async fn corrupt_bytes_are_not_the_drivers_to_judge() {
    let scene = Scene::new(Faults::none().once("/blobs/", Fault::Corrupt(50_000))).await;
    let (done, bytes) = scene.download().await;
    assert!(done.is_ok() && bytes != scene.blob);
}

#[tokio::test]
async fn a_manifest_kept_as_a_blob_is_found() {
    let scene = Scene::new(Faults::none()).await;
    let bytes = b"{\"schemaVersion\":2}".to_vec();
    scene.registry.add_blob(bytes.clone());
    let descriptor = Descriptor::new(berth_model::media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    let mut sink = Memory::default();
    client().fetch_into(&mut sink, &descriptor, &scene.reference(), &Scene::plain(), &|_| {}).await.unwrap();
    assert_eq!(sink.bytes, bytes);
}

#[tokio::test]
async fn a_missing_blob_is_named() {
    let scene = Scene::new(Faults::none().always("/blobs/", Fault::Status(404, String::new()))).await;
    assert_says(scene.download().await.0, Code::NotFound, &[&scene.layer.digest.to_string(), "404"]);
    assert_eq!(scene.registry.seen().len(), 1);
}

#[tokio::test]
async fn a_login_page_is_no_blob() {
    let scene =
        Scene::new(Faults::none().always("/blobs/", Fault::Status(200, "<html>log in</html>".to_owned()))).await;
    assert_says(scene.download().await.0, Code::FailedPrecondition, &["web page"]);
}

#[tokio::test]
async fn progress_is_told_and_grows() {
    let scene = Scene::new(Faults::none().once("/blobs/", Fault::ResetAfter(30_000))).await;
    let told = std::sync::Mutex::new(Vec::new());
    client()
        .fetch_into(&mut Memory::default(), &scene.layer, &scene.reference(), &Scene::plain(), &|offset| {
            told.lock().unwrap().push(offset);
        })
        .await
        .unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.is_sorted() && told.last() == Some(&100_000), "{told:?}");
}

/// Counts how often it was told that nothing arrives.
#[derive(Default)]
struct Lively {
    memory: Memory,
    rests: u32,
    signs: u32,
}

#[async_trait::async_trait]
impl berth_fetcher::BlobSink for Lively {
    fn offset(&self) -> u64 {
        self.memory.offset()
    }
    async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), Status> {
        self.memory.write(bytes).await
    }
    async fn rest(&mut self) -> Result<(), Status> {
        self.rests += 1;
        Ok(())
    }
    async fn alive(&mut self) -> Result<(), Status> {
        self.signs += 1;
        Ok(())
    }
}

/// A download that waits a second before it goes on.
async fn with_a_pause(client: &Arc<RegistryClient>) -> Lively {
    let scene = Scene::new(Faults::none().once("/blobs/", Fault::TooManyRequests(Some("1".to_owned())))).await;
    let mut sink = Lively::default();
    client.fetch_into(&mut sink, &scene.layer, &scene.reference(), &Scene::plain(), &|_| {}).await.unwrap();
    sink
}

#[tokio::test]
async fn signs_of_life_are_given_while_nothing_arrives() {
    let sink = with_a_pause(&client()).await;
    assert!(sink.signs >= 10, "{}", sink.signs);
}

#[tokio::test]
async fn what_came_last_is_told_before_a_sign_of_life_is_due() {
    let patient = ClientOptions { sign_of_life: Duration::from_secs(60), ..options() };
    let sink = with_a_pause(&Arc::new(RegistryClient::new(patient).unwrap())).await;
    assert!(sink.rests >= 1 && sink.signs == 0, "{} and {}", sink.rests, sink.signs);
}
