//! What the disk keeps, what a crash takes, and a disk that is full.

use std::path::Path;

use berth_model::{Code, Digest};
use berth_testing::tiny_disk::TinyDisk;
use berth_wire::content::watch_blob_reply::State;
use bytes::Bytes;

use crate::kit::{Home, Kind, pattern, read_all};

fn ingest_dir(root: &Path, name: &str) -> std::path::PathBuf {
    root.join("ingest").join(Digest::of(name.as_bytes()).hex())
}

pub(crate) async fn what_was_written_outlives_the_service(kind: Kind) {
    let mut home = Home::new(kind).await;
    let bytes = pattern(1_500_000);
    let digest = Digest::of(&bytes);
    let kept = home.put(b"kept").await;
    let store_id = home.stat(&kept).await.unwrap().store_id;
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    writer.write(Bytes::copy_from_slice(&bytes[..1_000_000])).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    home.restart(|_| {}).await;
    assert_eq!(home.stat(&kept).await.unwrap().size, 4);
    assert_eq!(home.stat(&kept).await.unwrap().store_id, store_id);
    let ingests = home.ingests().await;
    assert_eq!((ingests.len(), ingests[0].offset, ingests[0].active), (1, 1_000_000, false));
    assert_eq!((&ingests[0].expected, ingests[0].total), (&digest.to_string(), 1_500_000));
    assert_eq!(home.watch(&digest, (0, 0), 0).await.state(), State::Idle);
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    assert_eq!(writer.offset(), 1_000_000);
    writer.write(Bytes::copy_from_slice(&bytes[1_000_000..])).await.unwrap();
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
}

pub(crate) async fn a_crash_costs_at_most_what_was_not_kept(kind: Kind) {
    let mut home = Home::new(kind).await;
    let (bytes, committed) = (pattern(1_500_000), pattern(4321));
    let digest = Digest::of(&bytes);
    let (gone, kept) = (home.put(b"its file will be gone").await, home.put(b"kept").await);
    for name in ["layer-x", "no-ref", "no-data"] {
        let mut writer = home.writer(name, Some(&digest), 0).await.unwrap();
        writer.write(Bytes::copy_from_slice(&bytes[..1_000_000])).await.unwrap();
        writer.flush().await.unwrap();
    }
    home.restart(|root| {
        // As a kill or a power cut may leave it, between any two steps.
        let data = std::fs::File::options().write(true).open(ingest_dir(root, "layer-x").join("data")).unwrap();
        data.set_len(700_001).unwrap();
        std::fs::write(ingest_dir(root, "layer-x").join("data.new"), b"a copy that was cut off").unwrap();
        std::fs::write(ingest_dir(root, "layer-x").join("updatedat.tmp"), b"2026-").unwrap();
        std::fs::remove_file(ingest_dir(root, "no-ref").join("ref")).unwrap();
        std::fs::remove_file(ingest_dir(root, "no-data").join("data")).unwrap();
        std::fs::create_dir(root.join("ingest/half")).unwrap();
        std::fs::write(root.join("ingest/stray"), b"").unwrap();
        std::fs::write(root.join("blobs/sha256/stray"), b"").unwrap();
        std::fs::remove_file(root.join("blobs/sha256").join(gone.hex())).unwrap();
        // Renamed, and its record not written any more.
        std::fs::write(root.join("blobs/sha256").join(Digest::of(&committed).hex()), &committed).unwrap();
    })
    .await;
    assert_eq!(home.stat(&gone).await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.stat(&kept).await.unwrap().size, 4);
    let found = home.stat(&Digest::of(&committed)).await.unwrap();
    assert!(found.size == 4321 && found.created_at.is_some());
    let names: Vec<_> = home.ingests().await.into_iter().map(|ingest| (ingest.r#ref, ingest.offset)).collect();
    assert_eq!(names, [("layer-x".to_owned(), 700_001)]);
    assert_eq!(home.ingest_dirs(), 2, "the stray file is not ours to remove");
    assert!(!ingest_dir(home.root(), "layer-x").join("data.new").exists());
    let mut writer = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    assert_eq!(writer.offset(), 700_001);
    writer.write(Bytes::copy_from_slice(&bytes[700_001..])).await.unwrap();
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
    assert!(read_all(home.reader(digest)).await.0.unwrap() == bytes);
}

pub(crate) async fn a_full_disk_is_named(kind: Kind) {
    let disk = TinyDisk::new(8 << 20).unwrap();
    let root = disk.path().join("content");
    let silence = std::time::Duration::from_millis(300);
    let change = |config: &mut berth_content::Config| (config.root, config.writer_silence) = (root.clone(), silence);
    let home = Home::with(kind, change).await;
    let bytes = pattern(16 << 20);
    let digest = Digest::of(&bytes);
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    let mut full = None;
    for piece in bytes.chunks(600_000) {
        if let Err(status) = writer.write(Bytes::copy_from_slice(piece)).await {
            full = Some(status);
            break;
        }
    }
    let full = full.expect("8 MiB do not hold 16");
    assert_eq!(full.code, Code::ResourceExhausted, "{full}");
    assert!(full.message.contains(root.to_str().unwrap()), "{full}");
    drop(writer);
    // The service itself: there is no room for another ingest's files, and nothing of it stays.
    let filler = disk.path().join("filler");
    std::fs::write(&filler, b"").unwrap();
    fill(&filler);
    let before = home.ingest_dirs();
    let error = home.writer("layer-y", None, 0).await.err().unwrap();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    assert!(error.message.contains(root.to_str().unwrap()), "{error}");
    assert_eq!(home.ingest_dirs(), before);
    assert_eq!(home.ingests().await.len(), 1);
    // There is room again, and it goes on; what was written counts.
    std::fs::remove_file(&filler).unwrap();
    disk.resize(64 << 20).unwrap();
    let mut writer = home.writer_in_turn("layer-x", Some(&digest)).await;
    let offset = usize::try_from(writer.offset()).unwrap();
    assert!(offset > 0);
    writer.write(Bytes::copy_from_slice(&bytes[offset..])).await.unwrap();
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
}

/// Appends until nothing more fits.
fn fill(filler: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).open(filler).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

pub(crate) async fn a_store_is_opened_once(kind: Kind) {
    let home = Home::new(kind).await;
    let again = berth_content::Config::new(home.dir().to_owned(), "another");
    let error = berth_content::Service::open(again).await.err().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(error.message.contains("a test"), "{error}");
}
