//! Fetch jobs: equal work once, resumed, verified, and given up in order.

use std::{sync::Arc, time::Duration};

use berth_api::content::{BlobWriter, Content};
use berth_bus::JobUpdate;
use berth_model::{Code, Status};
use berth_testing::{
    hostile::{Auth, Fault, Faults},
    image::ImageBuilder,
};
use berth_wire::fetcher::{Access, ResolveRequest};

use crate::kit::Node;

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let waited = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_blob_is_fetched_once() {
    let node = Node::new(Faults::none()).await;
    let first = node.fetch().await.unwrap();
    assert_eq!((first.existed, first.fetched), (false, 3_000_000));
    let second = node.fetch().await.unwrap();
    assert_eq!((second.existed, second.fetched), (true, 0));
    assert_eq!(node.registry.seen_at("/blobs/").len(), 1);
}

#[tokio::test]
async fn a_small_blob_takes_few_messages() {
    let node = Node::of_size(3_000, Faults::none()).await;
    let mut job = node.bus.submit(node.job()).await.unwrap();
    let JobUpdate::Done(outcome) = job.next().await else { panic!("progress of what is there at once") };
    assert_eq!(outcome.unwrap().fetched, 3_000);
    assert!(node.fetch().await.unwrap().existed);
    assert_eq!(node.store.looks(), 0, "the place is asked for, not looked for");
    assert_eq!(node.store.advances(), 0);
    assert_eq!(node.registry.seen_at("/blobs/").len(), 1);
}

#[tokio::test]
async fn a_content_service_that_learns_nothing_from_a_commit_is_told_before() {
    for size in [3_000, 3_000_000] {
        let node = Node::of_size(size, Faults::none()).await;
        node.store.be_old();
        assert_eq!(node.fetch().await.unwrap().fetched, size as u64);
        assert!(node.store.advances() > 0);
    }
}

#[tokio::test]
async fn a_small_blob_is_seldom_told_of_while_it_trickles_in() {
    let trickle = Fault::Trickle(20, Duration::from_millis(6));
    let node = Node::of_size(3_000, Faults::none().always("/blobs/", trickle)).await;
    assert_eq!(node.fetch().await.unwrap().fetched, 3_000);
    // It takes a second. Where nothing comes for a tenth of one, which a busy machine may bring about, it is told of.
    assert!(node.store.advances() <= 4, "told {} times", node.store.advances());
}

#[tokio::test]
async fn equal_jobs_for_a_small_blob_fetch_once() {
    let node =
        Node::of_size(3_000, Faults::none().always("/blobs/", Fault::Trickle(100, Duration::from_millis(5)))).await;
    let outcomes = futures::future::join_all((0..6).map(|_| node.fetch())).await;
    let fetched: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.unwrap().fetched).collect();
    assert_eq!((fetched.iter().max(), fetched.iter().sum()), (Some(&3_000), 3_000));
    assert_eq!(node.registry.seen_at("/blobs/").len(), 1);
    assert!(node.store.looks() > 0, "who is refused watches");
}

#[tokio::test]
async fn equal_jobs_at_once_fetch_once() {
    let node = Node::new(Faults::none().always("/blobs/", Fault::Trickle(300_000, Duration::from_millis(10)))).await;
    let outcomes = futures::future::join_all((0..6).map(|_| node.fetch())).await;
    let fetched: u64 = outcomes.into_iter().map(|outcome| outcome.unwrap().fetched).max().unwrap();
    assert_eq!(fetched, 3_000_000);
    assert_eq!(node.registry.seen_at("/blobs/").len(), 1);
    assert!(node.store.has(&node.layer.digest));
}

#[tokio::test]
async fn wrong_bytes_are_fetched_again_once() {
    let node = Node::new(Faults::none().once("/blobs/", Fault::Corrupt(1_000_000))).await;
    assert_eq!(node.fetch().await.unwrap().fetched, 6_000_000);
    assert!(node.store.has(&node.layer.digest));
}

#[tokio::test]
async fn wrong_bytes_for_ever_are_an_error() {
    let node = Node::new(Faults::none().always("/blobs/", Fault::Corrupt(1_000_000))).await;
    let status = node.fetch().await.unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition);
    let said = format!("bytes from {} do not match digest {}", node.registry.host(), node.layer.digest);
    assert!(status.message.contains(&said), "{status}");
    assert_eq!(node.registry.seen_at("/blobs/").len(), 2);
    let left = node.store.ingest(&node.layer.ingest_ref()).unwrap();
    assert_eq!((left.written, left.session), (0, None), "nothing wrong is kept for a resume");
}

async fn partial(node: &Node) -> BlobWriter {
    let content: Arc<dyn Content> = node.store.clone();
    let reference = node.layer.ingest_ref();
    let mut writer = BlobWriter::open(content, &reference, Some(&node.layer.digest), node.layer.size).await.unwrap();
    writer.write(node.blob[..1_200_000].to_vec().into()).await.unwrap();
    writer
}

#[tokio::test]
async fn an_ingest_is_resumed() {
    let node = Node::new(Faults::none()).await;
    partial(&node).await.release().await.unwrap();
    let mut job = node.bus.submit(node.job()).await.unwrap();
    let mut offsets = Vec::new();
    let outcome = loop {
        match job.next().await {
            JobUpdate::Progress(progress) => offsets.push(progress.offset),
            JobUpdate::Done(outcome) => break outcome.unwrap(),
        }
    };
    assert_eq!(outcome.fetched, 1_800_000);
    assert!(offsets.iter().all(|offset| *offset >= 1_200_000), "{offsets:?}");
    assert_eq!(node.registry.seen_at("/blobs/")[0].range.as_deref(), Some("bytes=1200000-"));
}

#[tokio::test]
async fn damaged_bytes_of_an_ingest_are_fetched_anew() {
    let node = Node::new(Faults::none()).await;
    let content: Arc<dyn Content> = node.store.clone();
    let mut writer = BlobWriter::open(content, &node.layer.ingest_ref(), Some(&node.layer.digest), 0).await.unwrap();
    writer.write(vec![0; 3_000_000].into()).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(node.fetch().await.unwrap().fetched, 3_000_000);
    assert!(node.store.has(&node.layer.digest));
}

#[tokio::test]
async fn a_dead_writer_is_replaced() {
    let node = Node::new(Faults::none()).await;
    let mut dead = partial(&node).await;
    dead.flush().await.unwrap();
    let outcome = node.fetch().await.unwrap();
    assert!(outcome.fetched <= 1_800_000, "{outcome:?}");
    assert!(node.store.has(&node.layer.digest));
}

#[tokio::test]
async fn a_live_writer_is_watched() {
    let node = Node::new(Faults::none()).await;
    let mut live = partial(&node).await;
    let finish = async {
        for piece in node.blob[1_200_000..].chunks(200_000) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            live.write(piece.to_vec().into()).await?;
        }
        live.commit(node.layer.size, &node.layer.digest).await
    };
    let (finished, outcome) = tokio::join!(finish, node.fetch());
    finished.unwrap();
    assert_eq!(outcome.unwrap().fetched, 0);
    assert!(node.registry.seen().is_empty());
}

/// A pull that was interrupted gets its credentials back from whoever waits for it, and nobody waits for old answers then.
#[tokio::test]
async fn credentials_that_come_later_count_at_once() {
    let node = Node::new(Faults::none()).await;
    node.registry.require(Auth::Basic("me".to_owned(), "x".to_owned()));
    let mut job = node.job();
    job.pull_id = "late".to_owned();
    assert_eq!(node.bus.submit(job).await.unwrap().outcome().await.unwrap().fetched, 3_000_000);
    assert!(node.store.has(&node.layer.digest));
}

#[tokio::test]
async fn credentials_are_asked_for_by_the_pull() {
    let node = Node::new(Faults::none()).await;
    node.registry.require(Auth::Basic("me".to_owned(), "x".to_owned()));
    node.fetch().await.unwrap();
    let other = Node::new(Faults::none()).await;
    other.registry.require(Auth::Basic("me".to_owned(), "x".to_owned()));
    let mut job = other.job();
    job.pull_id = "gone".to_owned();
    let status = other.bus.submit(job).await.unwrap().outcome().await.unwrap_err();
    assert_eq!(status.code, Code::Unauthenticated, "{status}");
}

#[tokio::test]
async fn a_cancelled_job_leaves_its_bytes_and_its_place() {
    let node = Node::new(Faults::none().always("/blobs/", Fault::Trickle(300_000, Duration::from_millis(40)))).await;
    let mut job = node.bus.submit(node.job()).await.unwrap();
    let progress = job.next().await;
    assert!(matches!(progress, JobUpdate::Progress(progress) if progress.offset > 0));
    drop(job);
    let reference = node.layer.ingest_ref();
    until("the ingest is released", || node.store.ingest(&reference).is_some_and(|ingest| ingest.session.is_none()))
        .await;
    assert!(node.store.ingest(&reference).unwrap().written > 0);
}

#[tokio::test]
async fn references_are_resolved_over_the_bus() {
    let node = Node::new(Faults::none()).await;
    let image = ImageBuilder::new().build();
    node.registry.add_image("some/image", "v1", &image);
    node.registry.require(Auth::Token("me".to_owned(), "x".to_owned()));
    let request = |reference: &str, secret: &str| ResolveRequest {
        reference: reference.to_owned(),
        access: Some(Access { username: "me".to_owned(), secret: secret.to_owned(), plain_http: true }),
    };
    let reference = node.registry.reference("some/image", "v1");
    let found = node.bus.call(request(&reference, "x")).await.unwrap();
    assert_eq!(found.target.unwrap().digest, image.target.digest.to_string());
    let refused: Result<_, Status> = node.bus.call(request(&reference, "y")).await;
    assert_eq!(refused.unwrap_err().code, Code::Unauthenticated);
    let nonsense = node.bus.call(request("NO REFERENCE", "x")).await;
    assert_eq!(nonsense.unwrap_err().code, Code::InvalidArgument);
}
