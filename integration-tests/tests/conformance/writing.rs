//! `Write`, `Status`, `ListStatuses` and `Abort`.

use std::time::{Duration, SystemTime};

use berth_model::Code;
use berth_wire::containerd::{
    content::{self as api, WriteAction},
    leases,
};
use tokio::task::JoinSet;

use crate::{
    home::{Home, NS, between, digest, labels, refused, words},
    writer::{Writer, commit, message, put, stat, write},
};

async fn status(home: &Home, namespace: &str, reference: &str) -> Result<api::Status, tonic::Status> {
    let request = api::StatusRequest { r#ref: reference.into() };
    Ok(home.content(namespace).status(request).await?.into_inner().status.unwrap())
}

async fn statuses(home: &Home, namespace: &str, filters: &[&str]) -> Vec<String> {
    let request = api::ListStatusesRequest { filters: words(filters) };
    let found = home.content(namespace).list_statuses(request).await.unwrap().into_inner();
    found.statuses.into_iter().map(|status| status.r#ref).collect()
}

async fn abort(home: &Home, namespace: &str, reference: &str) -> Result<(), tonic::Status> {
    home.content(namespace).abort(api::AbortRequest { r#ref: reference.into() }).await.map(|_| ())
}

async fn info(home: &Home, digest: &str) -> Result<api::Info, tonic::Status> {
    let request = api::InfoRequest { digest: digest.into() };
    Ok(home.content(NS).info(request).await?.into_inner().info.unwrap())
}

async fn a_blob_is_written_step_by_step(home: Home) {
    let expected = digest(b"hello world");
    let begun = SystemTime::now();
    let (mut writer, first) = Writer::open(&home, NS, stat("r", &expected, 11)).await.unwrap();
    let open = SystemTime::now();
    assert_eq!((first.action(), first.offset, first.total), (WriteAction::Stat, 0, 11));
    assert_eq!(first.digest, digest(b""));
    between(first.started_at.as_ref(), begun, open);
    between(first.updated_at.as_ref(), begun, open);

    let before = SystemTime::now();
    let answer = writer.say(write(0, b"hello ")).await.unwrap();
    assert_eq!((answer.action(), answer.offset, answer.digest), (WriteAction::Write, 6, digest(b"hello ")));
    let after = SystemTime::now();
    let now = writer.say(message(WriteAction::Stat)).await.unwrap();
    assert_eq!((now.offset, now.total, now.digest, now.started_at), (6, 11, digest(b"hello "), first.started_at));
    between(now.updated_at.as_ref(), before, after);
    let seen = status(&home, NS, "r").await.unwrap();
    assert_eq!((seen.r#ref.as_str(), seen.offset, seen.total, seen.expected), ("r", 6, 11, expected.clone()));
    between(seen.started_at.as_ref(), begun, open);
    between(seen.updated_at.as_ref(), before, after);
    refused(info(&home, &expected).await, Code::NotFound, &expected);

    let mut last = commit(6, 11, &expected);
    last.data = b"world".to_vec();
    last.labels = labels(&[("a", "1"), ("empty", "")]);
    let answer = writer.say(last).await.unwrap();
    assert_eq!((answer.action(), answer.offset, answer.total), (WriteAction::Commit, 11, 11));
    assert_eq!(answer.digest, expected);
    // containerd sends this answer twice; once is enough.
    assert_eq!(writer.rest().await.unwrap(), None);
    let found = info(&home, &expected).await.unwrap();
    assert_eq!((found.size, found.labels), (11, labels(&[("a", "1")])));
    refused(status(&home, NS, "r").await, Code::NotFound, "r");
    assert_eq!(home.ingest_dirs(), 0);
}

async fn first_messages_are_checked(home: Home) {
    for (first, code, word) in [
        (message(WriteAction::Stat), Code::InvalidArgument, "ref"),
        (write(0, b"x"), Code::InvalidArgument, "ref"),
        (stat("r", "sha256:zz", 0), Code::InvalidArgument, "digest"),
        (stat("r", "", -1), Code::InvalidArgument, "-1"),
        (stat(&"r".repeat(5000), "", 0), Code::InvalidArgument, "ref"),
    ] {
        refused(Writer::open(&home, NS, first).await.map(|_| ()), code, word);
    }
    let writer = Writer::start(&home, NS).await;
    writer.close().await;
    for (namespace, code) in [("", Code::FailedPrecondition), ("a b", Code::InvalidArgument)] {
        let refusal = match Writer::on(home.wire(namespace, "")).await {
            Ok(mut writer) => writer.say(stat("r", "", 0)).await,
            Err(status) => Err(status),
        };
        refused(refusal, code, "namespace");
    }
    refused(
        Writer::on(home.wire(NS, "gone")).await.unwrap().say(stat("r", "", 0)).await,
        Code::NotFound,
        "lease does not exist",
    );
    assert_eq!(home.ingest_dirs(), 0);
    for reference in ["", "nothing"] {
        let code = if reference.is_empty() { Code::InvalidArgument } else { Code::NotFound };
        refused(status(&home, NS, reference).await, code, "ingest");
        refused(abort(&home, NS, reference).await, code, "ingest");
    }
}

async fn offsets_must_fit(home: Home) {
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    writer.say(write(0, b"abcdef")).await.unwrap();
    let mut other = writer;
    refused(other.say(write(3, b"x")).await, Code::OutOfRange, "offset 6");
    // The bytes stay, and at 0 the writer begins anew.
    let (mut writer, at) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    assert_eq!((at.offset, at.digest), (6, digest(b"abcdef")));
    let answer = writer.say(write(0, b"xy")).await.unwrap();
    assert_eq!((answer.offset, answer.digest), (2, digest(b"xy")));
    let answer = writer.say(write(2, b"")).await.unwrap();
    assert_eq!(answer.offset, 2);
    refused(writer.say(write(7, b"")).await, Code::OutOfRange, "offset 2");
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    let mut elsewhere = write(2, b"z");
    elsewhere.r#ref = "other".into();
    refused(writer.say(elsewhere).await, Code::InvalidArgument, "other");
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    assert_eq!(writer.say(commit(2, 0, "")).await.unwrap().digest, digest(b"xy"));
}

async fn a_ref_has_one_writer_at_a_time(home: Home) {
    let (mut first, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    first.say(write(0, b"ab")).await.unwrap();
    refused(Writer::open(&home, NS, stat("r", "", 0)).await.map(|_| ()), Code::Unavailable, "locked");
    // Namespaces have refs of their own.
    let (other, at) = Writer::open(&home, "other", stat("r", "", 0)).await.unwrap();
    assert_eq!(at.offset, 0);
    other.close().await;
    first.close().await;
    let (second, at) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    assert_eq!(at.offset, 2, "goes on where the first one stopped");
    second.close().await;
    assert_eq!(statuses(&home, NS, &[]).await, ["r"]);
    assert_eq!(statuses(&home, "other", &[]).await, ["r"]);
}

async fn a_writer_that_vanishes_leaves_its_bytes(home: Home) {
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    writer.say(write(0, b"abc")).await.unwrap();
    drop(writer);
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    let (mut writer, at) = loop {
        match Writer::open(&home, NS, stat("r", "", 0)).await {
            Ok(opened) => break opened,
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
        }
        assert!(tokio::time::Instant::now() < limit, "the place stays taken");
    };
    assert_eq!(at.offset, 3);
    let mut last = commit(3, 4, &digest(b"abcd"));
    last.data = b"d".to_vec();
    writer.say(last).await.unwrap();
    assert_eq!(home.ingest_dirs(), 0);
}

async fn what_is_wrong_is_not_committed(home: Home) {
    let right = digest(b"abc");
    let wrong = digest(b"abd");
    for (total, expected, word) in [(4, right.as_str(), "size"), (3, &wrong, "digest"), (2, "", "size")] {
        let (mut writer, at) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
        if at.offset == 0 {
            writer.say(write(0, b"abc")).await.unwrap();
        }
        refused(writer.say(commit(3, total, expected)).await, Code::FailedPrecondition, word);
        // The ingest stays and the ref is free.
        let seen = status(&home, NS, "r").await.unwrap();
        assert_eq!(seen.offset, 3);
    }
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    let mut labelled = commit(3, 3, &right);
    labelled.labels = labels(&[("k", &"v".repeat(4096))]);
    refused(writer.say(labelled).await, Code::InvalidArgument, "label");
    let (mut writer, at) = Writer::open(&home, NS, stat("r", &right, 3)).await.unwrap();
    assert_eq!(at.offset, 3);
    assert_eq!(writer.say(commit(3, 3, &right)).await.unwrap().digest, right);

    // Wrong bytes of the full size are not what the next writer finds: it could only fail again.
    let (mut writer, _) = Writer::open(&home, NS, stat("w", &wrong, 3)).await.unwrap();
    writer.say(write(0, b"xyz")).await.unwrap();
    refused(writer.say(commit(3, 3, &wrong)).await, Code::FailedPrecondition, "digest");
    let (mut writer, _) = Writer::open(&home, NS, stat("w", &wrong, 3)).await.unwrap();
    writer.say(write(0, b"abd")).await.unwrap();
    writer.say(commit(3, 3, &wrong)).await.unwrap();
}

async fn what_is_there_is_not_written_again(home: Home) {
    let there = put(&home, NS, "first", b"abc").await;
    // As soon as it is said.
    refused(Writer::open(&home, NS, stat("r", &there, 0)).await.map(|_| ()), Code::AlreadyExists, &there);
    assert_eq!(home.ingest_dirs(), 0);
    // Or later.
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    writer.say(write(0, b"ab")).await.unwrap();
    let mut told = write(2, b"c");
    told.expected = there.clone();
    refused(writer.say(told).await, Code::AlreadyExists, &there);
    assert_eq!(statuses(&home, NS, &[]).await, Vec::<String>::new(), "nothing is left of it");
    // Or at the end, with the digest and without.
    for expected in ["", there.as_str()] {
        let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
        writer.say(write(0, b"abc")).await.unwrap();
        refused(writer.say(commit(3, 3, expected)).await, Code::AlreadyExists, &there);
        assert_eq!(statuses(&home, NS, &[]).await, Vec::<String>::new());
    }
    assert_eq!(home.ingest_dirs(), 0);
}

async fn ingests_are_listed_and_dropped(home: Home) {
    for reference in ["a/1", "a/2", "b", "%", "..", "é x"] {
        let (mut writer, _) = Writer::open(&home, NS, stat(reference, "", 7)).await.unwrap();
        writer.say(write(0, b"x")).await.unwrap();
        writer.close().await;
    }
    let (elsewhere, _) = Writer::open(&home, "testing2", stat("b", "", 0)).await.unwrap();
    elsewhere.close().await;
    assert_eq!(statuses(&home, NS, &[]).await, ["%", "..", "a/1", "a/2", "b", "é x"]);
    for (filters, found) in [
        (&["ref==b"][..], &["b"][..]),
        (&["ref~=/^a\\//"], &["a/1", "a/2"]),
        (&["ref==b", "ref==%"], &["%", "b"]),
        (&["ref!=b,ref~=a"], &["a/1", "a/2"]),
        (&["ref==nothing"], &[]),
    ] {
        assert_eq!(statuses(&home, NS, filters).await, found, "{filters:?}");
    }
    let bad = api::ListStatusesRequest { filters: words(&["ref="]) };
    refused(home.content(NS).list_statuses(bad).await, Code::InvalidArgument, "filter");

    abort(&home, NS, "b").await.unwrap();
    refused(abort(&home, NS, "b").await, Code::NotFound, "ingest b");
    assert_eq!(statuses(&home, "testing2", &[]).await, ["b"]);
    // Under its writer.
    let (mut writer, at) = Writer::open(&home, NS, stat("a/1", "", 0)).await.unwrap();
    assert_eq!((at.offset, at.total), (1, 7));
    abort(&home, NS, "a/1").await.unwrap();
    refused(writer.say(write(1, b"y")).await, Code::Aborted, "a/1");
    let (_writer, at) = Writer::open(&home, NS, stat("a/1", "", 0)).await.unwrap();
    assert_eq!(at.offset, 0);
}

async fn messages_have_a_bound(home: Home) {
    let bytes = vec![7; 15 << 20];
    let (mut writer, _) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    let answer = writer.say(write(0, &bytes)).await.unwrap();
    assert_eq!(answer.offset, 15 << 20);
    assert_eq!(answer.digest, digest(&bytes));
    refused(writer.say(write(15 << 20, &vec![7; 17 << 20])).await, Code::OutOfRange, "too large");
    let (mut writer, at) = Writer::open(&home, NS, stat("r", "", 0)).await.unwrap();
    assert_eq!(at.offset, 15 << 20, "what was right before is there");
    writer.say(commit(15 << 20, 15 << 20, "")).await.unwrap();
}

/// Of many writers of the same bytes, under refs of their own, each hears that they are there.
async fn many_may_write_the_same(home: Home) {
    let bytes = vec![3; 1 << 20];
    let blob = digest(&bytes);
    let mut writers = Vec::new();
    for n in 0..16 {
        let (mut writer, _) = Writer::open(&home, NS, stat(&format!("r{n}"), "", 0)).await.unwrap();
        let (bytes, blob) = (bytes.clone(), blob.clone());
        writers.push(tokio::spawn(async move {
            writer.say(write(0, &bytes)).await.unwrap();
            writer.say(commit(1 << 20, 1 << 20, &blob)).await.map_err(|status| status.code())
        }));
    }
    let mut first = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(answer) => {
                assert_eq!(answer.digest, blob);
                first += 1;
            }
            Err(code) => assert_eq!(code, tonic::Code::AlreadyExists),
        }
    }
    assert!(first >= 1);
    assert_eq!((home.blob_files(), home.ingest_dirs()), (1, 0));
    info(&home, &blob).await.unwrap();
}

/// A client without a lease is safe from the collection up to its commit's answer; what it labelled as a root stays.
async fn collections_spare_what_is_being_committed(home: Home) {
    let mut writers = JoinSet::new();
    for n in 0..60_u8 {
        let wire = home.wire(NS, "");
        writers.spawn(async move {
            let mut writer = Writer::on(wire).await.unwrap();
            writer.say(stat(&format!("r{n}"), "", 0)).await.unwrap();
            writer.say(write(0, &[n; 100])).await.unwrap();
            let mut last = commit(100, 100, &digest(&[n; 100]));
            last.labels = labels(&[("containerd.io/gc.root", "yes")]);
            writer.say(last).await.map(|answer| answer.digest)
        });
    }
    let mut committed = Vec::new();
    while !writers.is_empty() {
        let lease = home.leases(NS).create(leases::CreateRequest::default()).await.unwrap().into_inner().lease.unwrap();
        home.leases(NS).delete(leases::DeleteRequest { id: lease.id, sync: true }).await.unwrap();
        while let Some(done) = writers.try_join_next() {
            committed.push(done.unwrap().unwrap());
        }
    }
    for digest in committed {
        info(&home, &digest).await.unwrap();
    }
    assert_eq!(home.blob_files(), 60);
}

crate::in_every_home! {
    a_blob_is_written_step_by_step
    first_messages_are_checked
    collections_spare_what_is_being_committed
    offsets_must_fit
    a_ref_has_one_writer_at_a_time
    a_writer_that_vanishes_leaves_its_bytes
    what_is_wrong_is_not_committed
    what_is_there_is_not_written_again
    ingests_are_listed_and_dropped
    messages_have_a_bound
    many_may_write_the_same
}
