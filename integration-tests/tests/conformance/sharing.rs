//! What a namespace gets of another one without sending it.

use berth_gateway::Sharing;
use berth_model::Code;
use berth_wire::containerd::{content as api, namespaces::Namespace};

use crate::{
    home::{Home, Kind, NS, digest, labels, refused},
    writer::{Writer, commit, put, stat, write},
};

async fn has(home: &Home, namespace: &str, digest: &str) -> bool {
    home.content(namespace).info(api::InfoRequest { digest: digest.into() }).await.is_ok()
}

async fn a_known_blob_needs_no_bytes(home: Home) {
    let blob = put(&home, "owner", "r", b"abc").await;
    assert!(!has(&home, NS, &blob).await);
    for total in [0, 3] {
        let namespace = format!("borrower{total}");
        let (mut writer, at) = Writer::open(&home, &namespace, stat("r", &blob, total)).await.unwrap();
        assert_eq!((at.offset, at.total, at.digest.as_str()), (3, 3, blob.as_str()));
        assert!(!has(&home, &namespace, &blob).await, "not before it is committed");
        let answer = writer.say(commit(3, 3, &blob)).await.unwrap();
        assert_eq!((answer.offset, answer.digest.as_str()), (3, blob.as_str()));
        assert!(has(&home, &namespace, &blob).await);
    }
    assert_eq!((home.blob_files(), home.ingest_dirs()), (1, 0));
    // A size that cannot be is not believed: the bytes have to come.
    let (mut writer, at) = Writer::open(&home, NS, stat("r", &blob, 4)).await.unwrap();
    assert_eq!(at.offset, 0);
    writer.say(write(0, b"abc")).await.unwrap();
    refused(writer.say(commit(3, 4, &blob)).await, Code::FailedPrecondition, "size");
    let (mut writer, at) = Writer::open(&home, NS, stat("s", &blob, 3)).await.unwrap();
    assert_eq!(at.offset, 3);
    refused(writer.say(commit(3, 5, &blob)).await, Code::FailedPrecondition, "size");
    assert!(!has(&home, NS, &blob).await);
}

async fn a_known_blob_can_be_added_to(home: Home) {
    let blob = put(&home, "owner", "r", b"abc").await;
    let (mut writer, at) = Writer::open(&home, NS, stat("r", &blob, 3)).await.unwrap();
    assert_eq!(at.offset, 3);
    let answer = writer.say(write(3, b"def")).await.unwrap();
    assert_eq!((answer.offset, answer.digest), (6, digest(b"abcdef")));
    writer.say(commit(6, 6, &digest(b"abcdef"))).await.unwrap();
    assert!(has(&home, NS, &digest(b"abcdef")).await && !has(&home, NS, &blob).await);
    assert!(has(&home, "owner", &blob).await, "the lender's is as it was");
    // Whoever adds to it, and promised what it was, has to say what it is now.
    let (mut writer, _) = Writer::open(&home, NS, stat("s", &blob, 3)).await.unwrap();
    writer.say(write(3, b"def")).await.unwrap();
    refused(writer.say(commit(6, 0, "")).await, Code::FailedPrecondition, "size");
    // Or begun anew.
    let (mut writer, _) = Writer::open(&home, NS, stat("r", &blob, 3)).await.unwrap();
    let answer = writer.say(write(0, b"x")).await.unwrap();
    assert_eq!((answer.offset, answer.digest), (1, digest(b"x")));
    writer.say(commit(1, 1, &digest(b"x"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_shared_where_all_are_isolated() {
    let home = Home::with(Kind::Local, Sharing::Isolated).await;
    let blob = put(&home, "owner", "r", b"abc").await;
    let (mut writer, at) = Writer::open(&home, NS, stat("r", &blob, 3)).await.unwrap();
    assert_eq!((at.offset, at.total), (0, 3), "knowing the digest is not having the bytes");
    refused(writer.say(commit(0, 3, &blob)).await, Code::FailedPrecondition, "size");
    assert!(!has(&home, NS, &blob).await);
    assert_eq!(put(&home, NS, "r", b"abc").await, blob, "whoever has them may say so");
    assert!(has(&home, NS, &blob).await);

    // Unless its owner lends.
    let namespace =
        Namespace { name: "owner".into(), labels: labels(&[("containerd.io/namespace.shareable", "true")]) };
    let update =
        berth_wire::containerd::namespaces::UpdateNamespaceRequest { namespace: Some(namespace), update_mask: None };
    home.namespaces().update(update).await.unwrap();
    let (mut writer, at) = Writer::open(&home, "third", stat("r", &blob, 3)).await.unwrap();
    assert_eq!(at.offset, 3);
    writer.say(commit(3, 3, &blob)).await.unwrap();
    assert!(has(&home, "third", &blob).await);
    let private = put(&home, NS, "p", b"private").await;
    let (_writer, at) = Writer::open(&home, "third", stat("p", &private, 7)).await.unwrap();
    assert_eq!(at.offset, 0);
}

crate::in_every_home! {
    a_known_blob_needs_no_bytes
    a_known_blob_can_be_added_to
}
