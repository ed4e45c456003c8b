//! Writers: what is refused, who has the place, and what it takes to lose it.

use std::{sync::Arc, time::Duration};

use berth_model::{Code, Digest};
use berth_wire::content as msg;
use bytes::Bytes;

use crate::kit::{Home, Kind, SOON, pattern, read_all, read_some};

const SILENCE: Duration = Duration::from_millis(300);

async fn open(home: &Home, name: &str, expected: &str) -> msg::OpenIngestReply {
    let request = msg::OpenIngestRequest { r#ref: name.into(), expected: expected.into(), total: 0 };
    home.content.open_ingest(request).await.unwrap()
}

pub(crate) async fn wrong_bytes_are_refused(kind: Kind) {
    let home = Home::new(kind).await;
    let (right, other) = (Digest::of(b"abc"), Digest::of(b"xyz"));
    let mut writer = home.writer("layer-x", None, 0).await.unwrap();
    writer.write(Bytes::from_static(b"abc")).await.unwrap();
    for (size, digest, named) in [(4, right, "4 were promised"), (2, right, "2 were promised"), (3, other, "layer-x")] {
        let error = writer.commit(size, &digest).await.unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition, "{error}");
        assert!(error.message.contains(named) && error.message.contains("layer-x"), "{error}");
        assert!(error.message.contains(&right.to_string()), "{error}");
        assert!(error.message.contains(&digest.to_string()), "{error}");
    }
    assert_eq!(home.stat(&right).await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.stat(&other).await.unwrap_err().code, Code::NotFound);
    writer.commit(3, &right).await.expect("the ingest stays, and its writer too");
}

pub(crate) async fn wrong_bytes_are_not_resumed(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"abc");
    let mut writer = home.writer("layer-x", Some(&digest), 3).await.unwrap();
    writer.write(Bytes::from_static(b"abd")).await.unwrap();
    assert_eq!(writer.commit(3, &digest).await.unwrap_err().code, Code::FailedPrecondition);
    writer.release().await.unwrap();
    let mut writer = home.writer("layer-x", Some(&digest), 3).await.unwrap();
    assert_eq!(writer.offset(), 0, "all bytes were there and wrong; more of them cannot help");
    writer.write(Bytes::from_static(b"abc")).await.unwrap();
    writer.commit(3, &digest).await.unwrap();
}

pub(crate) async fn one_writer_at_a_time(kind: Kind) {
    let home = Home::with(kind, |config| config.writer_silence = SILENCE).await;
    let bytes = pattern(2_000_000);
    let digest = Digest::of(&bytes);
    let mut first = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    first.write(Bytes::copy_from_slice(&bytes[..1_500_000])).await.unwrap();
    first.flush().await.unwrap();
    let error = home.writer("layer-x", Some(&digest), 0).await.err().unwrap();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("locked"), "{error}");
    // Its process dies: its files are closed. Sooner or later the next gets the place, and the bytes; the file is the same,
    // so who follows it goes on.
    let generation = home.hashed(&digest, 1_500_000).await.generation;
    let (reader, _) = read_some(home.reader(digest), 1000).await;
    drop(first);
    let mut second = home.writer_in_turn("layer-x", Some(&digest)).await;
    assert_eq!(second.offset(), 1_500_000);
    assert_eq!(home.watch(&digest, (0, 0), 0).await.generation, generation);
    second.write(Bytes::copy_from_slice(&bytes[1_500_000..])).await.unwrap();
    second.commit(bytes.len() as u64, &digest).await.unwrap();
    assert_eq!(read_all(reader).await.0.unwrap(), bytes[1000..]);
}

pub(crate) async fn what_a_silent_writer_still_writes_goes_nowhere(kind: Kind) {
    let home = Home::with(kind, |config| config.writer_silence = SILENCE).await;
    let bytes = pattern(600_000);
    let digest = Digest::of(&bytes);
    let mut first = home.writer("layer-x", Some(&digest), 0).await.unwrap();
    first.write(Bytes::copy_from_slice(&bytes[..550_000])).await.unwrap();
    first.flush().await.unwrap();
    let mut second = home.writer_in_turn("layer-x", Some(&digest)).await;
    let offset = usize::try_from(second.offset()).unwrap();
    assert!(offset > 0 && offset <= 550_000);
    assert_eq!(first.write(Bytes::from(vec![0; 600_000])).await.unwrap_err().code, Code::Aborted);
    second.write(Bytes::copy_from_slice(&bytes[offset..])).await.unwrap();
    second.commit(bytes.len() as u64, &digest).await.unwrap();
    assert_eq!(first.commit(0, &digest).await, Ok(None), "the blob is there, whoever made it");
    assert_eq!(read_all(home.reader(digest)).await.0.unwrap(), bytes);
}

pub(crate) async fn what_is_not_in_the_file_is_not_believed(kind: Kind) {
    let home = Home::new(kind).await;
    let ticket = open(&home, "layer-x", "").await;
    std::fs::write(&ticket.path, b"abc").unwrap();
    let advance = |session: &str, written| {
        let request = msg::AdvanceIngestRequest { r#ref: "layer-x".into(), session: session.into(), written };
        home.content.advance_ingest(request)
    };
    assert_eq!(advance(&ticket.session, 4).await.unwrap_err().code, Code::OutOfRange);
    assert_eq!(advance("somebody", 3).await.unwrap_err().code, Code::Aborted);
    advance(&ticket.session, 2).await.unwrap();
    advance(&ticket.session, 2).await.unwrap();
    assert_eq!(advance(&ticket.session, 1).await.unwrap_err().code, Code::OutOfRange);
    let commit =
        msg::CommitIngestRequest { r#ref: "layer-x".into(), session: ticket.session.clone(), ..Default::default() };
    let error = home.content.commit_ingest(commit.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "one byte was not reported: {error}");
    advance(&ticket.session, 3).await.unwrap();
    let done = home.content.commit_ingest(commit).await.unwrap();
    assert_eq!((done.digest, done.size), (Digest::of(b"abc").to_string(), 3));
}

pub(crate) async fn a_commit_goes_on_without_its_caller(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(4_000_000);
    let digest = Digest::of(&bytes);
    let ticket = open(&home, "layer-x", &digest.to_string()).await;
    std::fs::write(&ticket.path, &bytes).unwrap();
    let (name, session, written) = ("layer-x".to_owned(), ticket.session.clone(), bytes.len() as u64);
    let advance = msg::AdvanceIngestRequest { r#ref: name.clone(), session, written };
    home.content.advance_ingest(advance).await.unwrap();
    let commit = msg::CommitIngestRequest { r#ref: name, session: ticket.session, ..Default::default() };
    let content = Arc::clone(&home.content);
    // Asked once, and given up at the first wait.
    tokio::select! {
        biased;
        _ = content.commit_ingest(commit) => {}
        () = tokio::task::yield_now() => {}
    }
    let followed = tokio::time::timeout(SOON, read_all(home.reader(digest))).await.unwrap();
    assert!(followed.0.unwrap() == bytes);
}

pub(crate) async fn ingests_are_bounded(kind: Kind) {
    let home = Home::with(kind, |config| config.max_ingests = 2).await;
    let _writers = (home.writer("a", None, 0).await.unwrap(), home.writer("b", None, 0).await.unwrap());
    let error = home.writer("c", None, 0).await.err().unwrap();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    home.content.abort_ingest(msg::AbortIngestRequest { r#ref: "a".into(), ..Default::default() }).await.unwrap();
    home.writer("c", None, 0).await.unwrap();
    let long = msg::OpenIngestRequest { r#ref: "x".repeat(5000), ..Default::default() };
    assert_eq!(home.content.open_ingest(long).await.unwrap_err().code, Code::InvalidArgument);
}

pub(crate) async fn a_writer_learns_the_digest_so_far(kind: Kind) {
    let home = Home::new(kind).await;
    let ticket = open(&home, "layer-x", "").await;
    std::fs::write(&ticket.path, b"abc").unwrap();
    let hash = |session: &str, written| {
        let request = msg::HashIngestRequest { r#ref: "layer-x".into(), session: session.into(), written };
        home.content.hash_ingest(request)
    };
    for (written, bytes) in [(0, &b""[..]), (2, b"ab"), (3, b"abc"), (3, b"abc")] {
        assert_eq!(hash(&ticket.session, written).await.unwrap().digest, Digest::of(bytes).to_string());
    }
    assert_eq!(hash(&ticket.session, 4).await.unwrap_err().code, Code::OutOfRange);
    assert_eq!(hash("somebody", 3).await.unwrap_err().code, Code::Aborted);
}

pub(crate) async fn one_ingest_can_be_asked_for(kind: Kind) {
    let home = Home::new(kind).await;
    let stat = |name: &str| home.content.stat_ingest(msg::StatIngestRequest { r#ref: name.into() });
    assert_eq!(stat("layer-x").await.unwrap_err().code, Code::NotFound);
    let mut writer = home.writer("layer-x", Some(&Digest::of(b"abc")), 3).await.unwrap();
    writer.write(Bytes::from_static(b"ab")).await.unwrap();
    writer.release().await.unwrap();
    let found = stat("layer-x").await.unwrap();
    assert_eq!((found.r#ref.as_str(), found.offset, found.total, found.active), ("layer-x", 2, 3, false));
    assert_eq!(found.expected, Digest::of(b"abc").to_string());
    let moment = |time: Option<berth_wire::types::Time>| time.map(|time| (time.seconds, time.nanos)).unwrap();
    assert!(moment(found.started_at) <= moment(found.updated_at));
    let listed = home.content.list_ingests(msg::ListIngestsRequest::default()).await.unwrap();
    assert_eq!(listed.ingests, [found]);
}
