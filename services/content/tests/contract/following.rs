//! Readers and watchers of what is still arriving.

use std::{
    io::Read as _,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use berth_api::content::{BlobReader, Followed, Turns, read_arriving_document, read_document};
use berth_model::{Code, Descriptor, Digest};
use berth_wire::{
    content::{self as msg, watch_blob_reply::State},
    types::BlobPlace,
};
use bytes::Bytes;

use crate::kit::{Home, Kind, SOON, pattern, read_all, read_some};

pub(crate) async fn a_reader_follows_a_writer(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(5_000_000);
    let digest = Digest::of(&bytes);
    // The readers come first and find nothing yet.
    let following: Vec<_> = (0..20).map(|_| tokio::spawn(read_all(home.reader(digest)))).collect();
    let mut writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    for piece in bytes.chunks(70_001) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.flush().await.unwrap();
    assert!(following.iter().all(|reader| !reader.is_finished()), "not before it is proved");
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
    for reader in following {
        let (read, end) = reader.await.unwrap();
        assert!(read.unwrap() == bytes);
        assert_eq!(end, Some(Followed::Committed));
    }
}

/// Bytes that this process has read by calls of the system (proc(5), `/proc/pid/io`).
fn read_by_calls() -> usize {
    let counts = std::fs::read_to_string("/proc/self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Neither who hashes nor who reads has to read it from the file.
pub(crate) async fn a_large_blob_is_handed_on_in_memory(kind: Kind) {
    const STEP: usize = 1 << 20;
    /// What may be gathered, being written and not yet told.
    const BEHIND: usize = 6;
    let home = Home::new(kind).await;
    let bytes = pattern(24 * STEP);
    let digest = Digest::of(&bytes);
    let writer = home.writer("layer-x", Some(&digest), bytes.len() as u64).await.unwrap();
    let mut writer = writer.in_turns(&Turns::default(), bytes.len() as u64);
    // Both are there before the rest comes.
    writer.write(Bytes::copy_from_slice(&bytes[..STEP])).await.unwrap();
    writer.flush().await.unwrap();
    let (mut reader, first) = read_some(home.reader(digest), STEP).await;
    assert!(first == bytes[..STEP]);
    let before = read_by_calls();
    let (steps, read) = mpsc::channel();
    let reading = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        while (&mut reader).take(STEP as u64).read_to_end(&mut rest).unwrap() > 0 {
            let _unheard = steps.send(());
        }
        (rest, reader.end().cloned())
    });
    for (count, step) in bytes[STEP..].chunks(STEP).enumerate() {
        for part in step.chunks(70_001) {
            writer.write(Bytes::copy_from_slice(part)).await.unwrap();
        }
        // The writer waits for its reader only for a moment, and this shall not depend on how fast that is.
        if count >= BEHIND {
            tokio::task::block_in_place(|| read.recv_timeout(SOON)).unwrap();
        }
    }
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
    let (rest, end) = reading.await.unwrap();
    assert!(rest == bytes[STEP..] && end == Some(Followed::Committed));
    let read = read_by_calls() - before;
    assert!(read < bytes.len() / 2, "{read} of {} bytes were read from the file", 2 * bytes.len());
}

pub(crate) async fn a_restart_voids_what_was_read(kind: Kind) {
    let home = Home::new(kind).await;
    let (wrong, right) = (pattern(2_000_000), pattern(2_000_001));
    let digest = Digest::of(&right);
    let mut writer = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    writer.write(Bytes::from(wrong.clone())).await.unwrap();
    let (reader, first) = read_some(home.reader(digest), 1000).await;
    assert_eq!(first, wrong[..1000]);
    let before = home.watch(&digest, (0, 0), 0).await.generation;
    writer.restart().await.unwrap();
    let after = home.watch(&digest, (0, 0), 0).await;
    assert!(after.generation != before && after.generation != 0 && after.frontier == 0);
    writer.write(Bytes::from(right.clone())).await.unwrap();
    writer.commit(right.len() as u64, &digest).await.unwrap();
    let (read, end) = read_all(reader).await;
    assert!(read.is_err());
    assert_eq!(end, Some(Followed::Void));
    assert_eq!(read_all(home.reader(digest)).await.0.unwrap(), right);
}

pub(crate) async fn a_reader_that_follows_outlives_its_writer(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(3_000_000);
    let digest = Digest::of(&bytes);
    let mut writer = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    writer.write(Bytes::copy_from_slice(&bytes[..2_000_000])).await.unwrap();
    writer.flush().await.unwrap();
    let generation = home.hashed(&digest, 2_000_000).await.generation;
    let (reader, _) = read_some(home.reader(digest), 1000).await;
    writer.release().await.unwrap();
    let idle = home.watch(&digest, (0, 0), 0).await;
    assert_eq!((idle.state(), idle.generation, idle.frontier), (State::Idle, generation, 2_000_000));
    let mut writer = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    assert_eq!(writer.offset(), 2_000_000);
    writer.write(Bytes::copy_from_slice(&bytes[2_000_000..])).await.unwrap();
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
    let (read, end) = read_all(reader).await;
    assert!(read.unwrap() == bytes[1000..]);
    assert_eq!(end, Some(Followed::Committed));
}

pub(crate) async fn waiting_ends_with_news(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"abc");
    assert_eq!(home.watch(&digest, (0, 0), 1).await.state(), State::Absent);
    let content = Arc::clone(&home.content);
    let waiting = tokio::spawn(async move {
        let request = msg::WatchBlobRequest { digest: digest.to_string(), wait_ms: 30_000, ..Default::default() };
        content.watch_blob(request).await.unwrap()
    });
    let writer = home.writer("layer-abc", Some(&digest), 3).await.unwrap();
    let news = waiting.await.unwrap();
    assert_eq!((news.state(), news.total), (State::Growing, 3));
    let (seen, digest) = ((news.generation, news.frontier), &digest);
    writer.release().await.unwrap();
    assert_eq!(home.watch(digest, (0, 0), 0).await.state(), State::Idle);
    let abort =
        || home.content.abort_ingest(msg::AbortIngestRequest { r#ref: "layer-abc".into(), ..Default::default() });
    abort().await.unwrap();
    assert_eq!(abort().await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.watch(digest, seen, 30_000).await.state(), State::Absent);
}

pub(crate) async fn silence_is_news(kind: Kind) {
    let home = Home::with(kind, |config| config.writer_silence = Duration::from_millis(400)).await;
    let digest = Digest::of(b"abc");
    let _writer = home.writer("layer-abc", Some(&digest), 3).await.unwrap();
    let news = home.watch(&digest, (0, 0), 0).await;
    assert_eq!(news.state(), State::Growing);
    let news = home.watch(&digest, (news.generation, news.frontier), 25_000).await;
    assert_eq!(news.state(), State::Idle);
}

/// A download whose bytes come slowly tells only what is new, but not only then.
pub(crate) async fn who_has_nothing_new_is_heard_of(kind: Kind) {
    let silence = Duration::from_secs(4);
    let home = Home::with(kind, |config| config.writer_silence = silence).await;
    let digest = Digest::of(b"abc");
    let mut writer = home.writer("layer-abc", Some(&digest), 3).await.unwrap();
    writer.write(Bytes::from_static(b"ab")).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < silence + Duration::from_secs(1) {
        writer.catch_up().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(home.ingests().await[0].active);
}

pub(crate) async fn a_ref_can_be_watched(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"abc");
    // It does not say what it expects, so the digest alone does not find it.
    let mut writer = home.writer("upload-1", None, 0).await.unwrap();
    writer.write(Bytes::from_static(b"ab")).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(home.watch(&digest, (0, 0), 0).await.state(), State::Absent);
    let request = msg::WatchBlobRequest { digest: digest.to_string(), r#ref: "upload-1".into(), ..Default::default() };
    assert_eq!(home.content.watch_blob(request).await.unwrap().state(), State::Growing);
    writer.write(Bytes::from_static(b"c")).await.unwrap();
    writer.commit(0, &digest).await.unwrap();
    assert_eq!(home.watch(&digest, (0, 0), 30_000).await.state(), State::Committed);
}

pub(crate) async fn a_reader_ends_with_the_program(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"never comes");
    let going = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut reader = BlobReader::new(Arc::clone(&home.content), going.handle().clone(), digest, || false);
    let reading = std::thread::spawn(move || {
        let mut byte = [0];
        let ended = std::io::Read::read(&mut reader, &mut byte).map_err(|error| error.to_string());
        (ended, reader.end().cloned())
    });
    going.shutdown_background();
    let (ended, how) = tokio::task::spawn_blocking(move || reading.join()).await.unwrap().expect("it panicked");
    assert!(ended.is_err());
    assert!(matches!(how, Some(Followed::Failed(_))), "{how:?}");
}

/// Its bytes are proved by their digest, whether they are on disk or not.
pub(crate) async fn a_document_is_read_before_it_is_committed(kind: Kind) {
    let home = Home::new(kind).await;
    let (bytes, wrong) = (pattern(3_000), vec![0; 3_000]);
    let digest = Digest::of(&bytes);
    let size = bytes.len() as u64;
    let descriptor = Descriptor::new("application/vnd.oci.image.config.v1+json", digest, size);
    let mut writer = home.writer("config-x", Some(&digest), size).await.unwrap();
    writer.write(Bytes::from(wrong)).await.unwrap();
    writer.digest().await.unwrap();
    assert_eq!(read_arriving_document(&home.content, &descriptor).await.unwrap(), None);
    writer.restart().await.unwrap();
    writer.write(Bytes::copy_from_slice(&bytes)).await.unwrap();
    assert_eq!(writer.digest().await.unwrap(), digest);
    assert!(read_arriving_document(&home.content, &descriptor).await.unwrap().unwrap() == bytes);
    assert_eq!(home.stat(&digest).await.unwrap_err().code, Code::NotFound);
    writer.commit(size, &digest).await.unwrap();
    assert!(read_document(&home.content, &descriptor).await.unwrap() == bytes);
}

/// Who was told where a blob was committed asks nobody; and what is wrong about the place does no harm.
pub(crate) async fn a_committed_blob_is_read_where_it_is_said_to_be(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(70_001);
    let (digest, other) = (Digest::of(&bytes), home.put(&pattern(70_002)[1..]).await);
    let size = bytes.len() as u64;
    let mut writer = home.writer("layer-x", Some(&digest), size).await.unwrap();
    writer.write(Bytes::copy_from_slice(&bytes)).await.unwrap();
    let place = writer.commit(size, &digest).await.unwrap().expect("it says where the blob is");
    // Whoever has to ask notices at once that it was cancelled.
    let silent = || BlobReader::new(Arc::clone(&home.content), tokio::runtime::Handle::current(), digest, || true);
    let (read, end) = read_all(silent().at(Some(&place), size)).await;
    assert!(read.unwrap() == bytes && end == Some(Followed::Committed));

    let at = |path: String| BlobPlace { path, ..place.clone() };
    let aside = tempfile::tempdir().unwrap();
    let aside = aside.path().join(digest.hex());
    std::fs::write(&aside, &bytes).unwrap();
    for (what, wrong, size) in [
        ("of another disk", BlobPlace { store_id: "another".into(), ..place.clone() }, size),
        ("another blob", at(place.path.replace(&digest.hex(), &other.hex())), size),
        ("not in the store", at(aside.display().to_string()), size),
        ("by a way around", at(place.path.replace(&digest.hex(), &format!("../blobs/{}", digest.hex()))), size),
        ("of another length", place.clone(), size + 1),
        ("nothing", BlobPlace::default(), size),
    ] {
        let (read, end) = read_all(silent().at(Some(&wrong), size)).await;
        assert!(read.is_err() && end != Some(Followed::Committed), "{what}: it is not read unasked");
        let (read, end) = read_all(home.reader(digest).at(Some(&wrong), size)).await;
        assert!(read.unwrap() == bytes && end == Some(Followed::Committed), "{what}: the service knows better");
    }

    home.delete(&digest, 60).await.unwrap();
    let (read, _) = read_all(silent().at(Some(&place), size)).await;
    assert!(read.is_err(), "it was deleted since");
    assert_eq!(home.put(&bytes).await, digest);
    let (read, end) = read_all(home.reader(digest).at(Some(&place), size)).await;
    assert!(read.unwrap() == bytes && end == Some(Followed::Committed));
}
