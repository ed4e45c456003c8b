//! What a client of containerd stumbles over and a client of Berth does not: faults that were seen in containerd's own
//! services, each as a test. (Others are where their subject is: `writing`, `sharing`, the snapshotter's suite, pulls.)

use berth_model::Code;
use berth_wire::containerd::{content, leases, snapshots, snapshots::snapshots_client::SnapshotsClient};

use crate::{
    home::{Home, NS, Wire, labels, refused, words},
    writer::{Writer, commit, stat, write},
};

fn client(home: &Home, lease: &str) -> SnapshotsClient<Wire> {
    SnapshotsClient::new(home.wire(NS, lease))
}

fn prepare(key: &str, parent: &str, pairs: &[(&str, &str)]) -> snapshots::PrepareSnapshotRequest {
    snapshots::PrepareSnapshotRequest {
        snapshotter: "overlayfs".into(),
        key: key.into(),
        parent: parent.into(),
        labels: labels(pairs),
    }
}

fn commit_as(name: &str, key: &str, pairs: &[(&str, &str)]) -> snapshots::CommitSnapshotRequest {
    snapshots::CommitSnapshotRequest {
        snapshotter: "overlayfs".into(),
        name: name.into(),
        key: key.into(),
        labels: labels(pairs),
        ..Default::default()
    }
}

fn remove(key: &str) -> snapshots::RemoveSnapshotRequest {
    snapshots::RemoveSnapshotRequest { snapshotter: "overlayfs".into(), key: key.into() }
}

/// There, a parent whose child was collected can never be removed again.
async fn a_parent_can_go_after_its_child_was_collected(home: Home) {
    let keep = [("containerd.io/gc.root", "yes")];
    let mut rooted = client(&home, "");
    rooted.prepare(prepare("active", "", &keep)).await.unwrap();
    rooted.commit(commit_as("parent", "active", &keep)).await.unwrap();
    let made = home.leases(NS).create(leases::CreateRequest::default()).await.unwrap().into_inner().lease.unwrap();
    let mut leased = client(&home, &made.id);
    leased.prepare(prepare("growing", "parent", &[])).await.unwrap();
    leased.commit(commit_as("child", "growing", &[])).await.unwrap();
    refused(rooted.remove(remove("parent")).await, Code::FailedPrecondition, "child");
    home.leases(NS).delete(leases::DeleteRequest { id: made.id, sync: true }).await.unwrap();
    let child = snapshots::StatSnapshotRequest { snapshotter: "overlayfs".into(), key: "child".into() };
    refused(rooted.stat(child).await, Code::NotFound, "child");
    rooted.remove(remove("parent")).await.unwrap();
}

/// There, both are answered with UNKNOWN.
async fn a_filter_that_is_none_is_the_callers_mistake(home: Home) {
    let request = snapshots::ListSnapshotsRequest { snapshotter: "overlayfs".into(), filters: words(&["name="]) };
    let listed = match client(&home, "").list(request).await {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(listed, Code::InvalidArgument, "filter");
    let request = content::ListContentRequest { filters: words(&["size>1"]) };
    let listed = match home.content(NS).list(request).await {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(listed, Code::InvalidArgument, "filter");
}

/// There, bytes that were wrong stay in the ingest: whoever comes next finds all bytes there, commits, and fails again.
async fn wrong_bytes_do_not_wait_for_the_next_one(home: Home) {
    let (good, bad) = (b"what it should be".as_slice(), b"what came instead".as_slice());
    let expected = crate::home::digest(good);
    for (bytes, done) in [(bad, false), (good, true)] {
        let (mut writer, at) = Writer::open(&home, NS, stat("blob", &expected, 17)).await.unwrap();
        assert_eq!(at.offset, 0, "nothing wrong is left to go on from");
        writer.say(write(0, bytes)).await.unwrap();
        let answer = writer.say(commit(17, 17, &expected)).await;
        if done {
            assert_eq!(answer.unwrap().digest, expected);
        } else {
            refused(answer, Code::FailedPrecondition, "digest");
        }
    }
}

crate::in_every_home! {
    a_parent_can_go_after_its_child_was_collected
    a_filter_that_is_none_is_the_callers_mistake
    wrong_bytes_do_not_wait_for_the_next_one
}
