//! The content contract, in both homes: called directly, and through the bus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{io::Read as _, path::Path, sync::Arc, time::Duration};

use berth_api::content::{BlobReader, BlobWriter, Content, ContentClient, Followed};
use berth_bus::{Bus, Serving};
use berth_content::{Config, Service};
use berth_model::{Code, Digest, Status};
use berth_wire::{
    content::{self as msg, watch_blob_reply::State},
    types::Time,
};
use bytes::Bytes;

/// A store in one of its homes.
struct Home {
    dir: tempfile::TempDir,
    content: Arc<dyn Content>,
    _serving: Vec<Serving>,
}

#[derive(Clone, Copy)]
enum Kind {
    Direct,
    Bus,
}

async fn attach(kind: Kind, config: Config) -> Result<(Arc<dyn Content>, Vec<Serving>), Status> {
    match kind {
        Kind::Direct => Ok((Service::open(config).await?, vec![])),
        Kind::Bus => {
            let bus = Bus::in_process();
            let serving = berth_content::start(&bus, config).await?;
            Ok((Arc::new(ContentClient::new(bus)), serving))
        }
    }
}

fn config(root: &Path) -> Config {
    Config::new(root.to_owned(), "a test")
}

impl Home {
    async fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (content, serving) = attach(kind, config(dir.path())).await.unwrap();
        Self { dir, content, _serving: serving }
    }

    async fn writer(&self, name: &str, digest: Option<&Digest>, total: u64) -> Result<BlobWriter, Status> {
        BlobWriter::open(Arc::clone(&self.content), name, digest, total).await
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut writer = self.writer(&format!("layer-{digest}"), Some(&digest), bytes.len() as u64).await.unwrap();
        writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
        writer.commit(bytes.len() as u64, &digest).await.unwrap();
        digest
    }

    fn reader(&self, digest: Digest) -> BlobReader {
        BlobReader::new(Arc::clone(&self.content), tokio::runtime::Handle::current(), digest, || false)
    }

    async fn stat(&self, digest: &Digest) -> Result<msg::StatBlobReply, Status> {
        self.content.stat_blob(msg::StatBlobRequest { digest: digest.to_string() }).await
    }

    async fn watch(&self, digest: &Digest, generation: u64, frontier: u64, wait_ms: u32) -> msg::WatchBlobReply {
        let request =
            msg::WatchBlobRequest { digest: digest.to_string(), generation, frontier, wait_ms, ..Default::default() };
        self.content.watch_blob(request).await.unwrap()
    }
}

async fn read_all(mut reader: BlobReader) -> (std::io::Result<Vec<u8>>, Option<Followed>) {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let done = reader.read_to_end(&mut bytes).map(|_| bytes);
        (done, reader.end().cloned())
    })
    .await
    .unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 / 7) as u8).collect()
}

async fn a_blob_is_written_read_listed_and_deleted(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(3_000_000);
    let digest = home.put(&bytes).await;
    let stat = home.stat(&digest).await.unwrap();
    assert_eq!(stat.size, bytes.len() as u64);
    let path = home.dir.path().join("blobs/sha256").join(digest.hex());
    assert_eq!(Path::new(&stat.path), path);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o444);
    assert_eq!(read_all(home.reader(digest)).await.0.unwrap(), bytes);
    assert_eq!(home.put(b"").await, Digest::of(b""), "an empty blob is a blob");

    let error = home.writer("again", Some(&digest), 0).await.err().unwrap();
    assert_eq!(error.code, Code::AlreadyExists);
    let list = home.content.list_blobs(msg::ListBlobsRequest { limit: 1, ..Default::default() }).await.unwrap();
    assert!(list.more && list.blobs.len() == 1);
    let after = list.blobs[0].digest.clone();
    let rest = home.content.list_blobs(msg::ListBlobsRequest { limit: 5, after }).await.unwrap();
    assert!(!rest.more && rest.blobs.len() == 1);
    assert!(home.content.list_ingests(msg::ListIngestsRequest::default()).await.unwrap().ingests.is_empty());
    assert_eq!(std::fs::read_dir(home.dir.path().join("ingest")).unwrap().count(), 0);

    let delete = |not_after: Time| {
        home.content.delete_blob(msg::DeleteBlobRequest { digest: digest.to_string(), not_after: Some(not_after) })
    };
    let now = Time::now();
    assert_eq!(delete(Time { seconds: now.seconds - 1, ..now }).await.unwrap_err().code, Code::FailedPrecondition);
    assert_eq!(delete(Time { seconds: now.seconds + 30, ..now }).await.unwrap().freed, bytes.len() as u64);
    assert_eq!(delete(Time { seconds: now.seconds + 30, ..now }).await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.stat(&digest).await.unwrap_err().code, Code::NotFound);
}

async fn a_reader_follows_a_writer(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(5_000_000);
    let digest = Digest::of(&bytes);
    // The reader comes first and finds nothing yet.
    let following = tokio::spawn(read_all(home.reader(digest)));
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    for piece in bytes.chunks(70_001) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.flush().await.unwrap();
    assert!(!following.is_finished(), "not before it is proved");
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
    let (read, end) = following.await.unwrap();
    assert!(read.unwrap() == bytes);
    assert_eq!(end, Some(Followed::Committed));
}

async fn a_restart_voids_what_was_read(kind: Kind) {
    let home = Home::new(kind).await;
    let (wrong, right) = (pattern(2_000_000), pattern(2_000_001));
    let digest = Digest::of(&right);
    let mut writer = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    writer.write(Bytes::from(wrong.clone())).await.unwrap();
    let mut reader = home.reader(digest);
    let reader = tokio::task::spawn_blocking(move || {
        let mut first = [0; 1000];
        reader.read_exact(&mut first).unwrap();
        reader
    });
    let reader = reader.await.unwrap();
    let error = writer.commit(wrong.len() as u64, &digest).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains(&digest.to_string()) && error.message.contains("layer-x"), "{error}");
    writer.restart().await.unwrap();
    writer.write(Bytes::from(right.clone())).await.unwrap();
    writer.commit(right.len() as u64, &digest).await.unwrap();
    let (read, end) = read_all(reader).await;
    assert!(read.is_err());
    assert_eq!(end, Some(Followed::Void));
    assert_eq!(read_all(home.reader(digest)).await.0.unwrap(), right);
}

async fn one_writer_at_a_time(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let silence = Duration::from_millis(300);
    let (content, serving) = attach(kind, Config { writer_silence: silence, ..config(dir.path()) }).await.unwrap();
    let home = Home { dir, content, _serving: serving };
    let bytes = pattern(600_000);
    let digest = Digest::of(&bytes);
    let mut first = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    first.write(Bytes::copy_from_slice(&bytes[..550_000])).await.unwrap();
    first.flush().await.unwrap();
    let error = home.writer("layer-x", Some(&digest), 0).await.err().unwrap();
    assert_eq!(error.code, Code::Unavailable);
    // The first falls silent; sooner or later the second gets the seat, and the bytes.
    let mut second = loop {
        match home.writer("layer-x", Some(&digest), 0).await {
            Ok(writer) => break writer,
            Err(status) => assert_eq!(status.code, Code::Unavailable),
        }
    };
    let offset = usize::try_from(second.offset()).unwrap();
    assert!(offset > 0 && offset <= 550_000);
    assert_eq!(first.write(Bytes::from(vec![0; 600_000])).await.unwrap_err().code, Code::Aborted);
    second.write(Bytes::copy_from_slice(&bytes[offset..])).await.unwrap();
    second.commit(bytes.len() as u64, &digest).await.unwrap();
    assert_eq!(read_all(home.reader(digest)).await.0.unwrap(), bytes, "the first one's late bytes went nowhere");
}

async fn what_was_written_outlives_the_service(kind: Kind) {
    let mut home = Home::new(kind).await;
    let bytes = pattern(1_500_000);
    let digest = Digest::of(&bytes);
    let kept = home.put(b"kept").await;
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    writer.write(Bytes::copy_from_slice(&bytes[..1_000_000])).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    home._serving.clear();
    home.content = Arc::new(ContentClient::new(Bus::in_process()));
    // Something half made, as a crash leaves it; and a blob whose index entry a power cut took.
    std::fs::create_dir(home.dir.path().join("ingest/half")).unwrap();
    let (content, serving) = loop {
        match attach(kind, config(home.dir.path())).await {
            Ok(home) => break home,
            // The bus gives the old service up in its own time.
            Err(status) => assert_eq!(status.code, Code::FailedPrecondition, "{status}"),
        }
    };
    (home.content, home._serving) = (content, serving);
    assert!(!home.dir.path().join("ingest/half").exists());
    assert_eq!(home.stat(&kept).await.unwrap().size, 4);
    let ingests = home.content.list_ingests(msg::ListIngestsRequest::default()).await.unwrap().ingests;
    assert_eq!((ingests.len(), ingests[0].offset, ingests[0].active), (1, 1_000_000, false));
    assert_eq!(ingests[0].expected, digest.to_string());
    assert_eq!(home.watch(&digest, 0, 0, 0).await.state(), State::Idle);
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    assert_eq!(writer.offset(), 1_000_000);
    writer.write(Bytes::copy_from_slice(&bytes[1_000_000..])).await.unwrap();
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
}

async fn waiting_ends_with_news(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"abc");
    assert_eq!(home.watch(&digest, 0, 0, 1).await.state(), State::Absent);
    let content = Arc::clone(&home.content);
    let waiting = tokio::spawn(async move {
        let request = msg::WatchBlobRequest { digest: digest.to_string(), wait_ms: 30_000, ..Default::default() };
        content.watch_blob(request).await.unwrap()
    });
    let writer = home.writer("layer-abc", Some(&digest), 3).await.unwrap();
    let news = waiting.await.unwrap();
    assert_eq!((news.state(), news.total), (State::Growing, 3));
    writer.release().await.unwrap();
    assert_eq!(home.watch(&digest, 0, 0, 0).await.state(), State::Idle);
    home.content.abort_ingest(msg::AbortIngestRequest { r#ref: "layer-abc".into() }).await.unwrap();
    let gone = home.content.abort_ingest(msg::AbortIngestRequest { r#ref: "layer-abc".into() }).await;
    assert_eq!(gone.unwrap_err().code, Code::NotFound);
    assert_eq!(home.watch(&digest, news.generation, news.frontier, 30_000).await.state(), State::Absent);
}

async fn the_same_bytes_twice_are_one_blob(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"twice");
    let mut first = home.writer("a", None, 0).await.unwrap();
    let mut second = home.writer("b", None, 0).await.unwrap();
    for writer in [&mut first, &mut second] {
        writer.write(Bytes::from_static(b"twice")).await.unwrap();
    }
    let (first, second) = tokio::join!(first.commit(5, &digest), second.commit(5, &digest));
    first.unwrap();
    second.unwrap();
    assert_eq!(home.content.list_blobs(msg::ListBlobsRequest::default()).await.unwrap().blobs.len(), 1);
    assert_eq!(std::fs::read_dir(home.dir.path().join("ingest")).unwrap().count(), 0);
}

macro_rules! in_every_home {
    ($($name:ident)*) => {
        mod direct { $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Kind::Direct).await; })* }
        mod bus { $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Kind::Bus).await; })* }
    };
}

in_every_home! {
    a_blob_is_written_read_listed_and_deleted
    a_reader_follows_a_writer
    a_restart_voids_what_was_read
    one_writer_at_a_time
    what_was_written_outlives_the_service
    waiting_ends_with_news
    the_same_bytes_twice_are_one_blob
}
