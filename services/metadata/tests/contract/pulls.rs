//! Records of pulls, and who leads.

use berth_model::Code;
use berth_wire::metadata::{self as msg, pull_record::State};

use crate::homes::{Home, NS, digest, refused};

async fn lead(home: &Home) -> u64 {
    home.pulls.begin_term(msg::BeginTermRequest::default()).await.unwrap().term
}

fn create(term: u64, id: &str) -> msg::CreatePullRequest {
    let pull = msg::PullRecord {
        id: id.into(),
        namespace: NS.into(),
        reference: "h/app:1".into(),
        snapshotter: "overlayfs".into(),
        ..msg::PullRecord::default()
    };
    msg::CreatePullRequest { term, pull: Some(pull), lease_seconds: 100 }
}

fn end(term: u64, id: &str, code: Code, keep_seconds: u64) -> msg::EndPullRequest {
    let (code, message) = if code == Code::Unknown { (0, "") } else { (code.number(), "why") };
    msg::EndPullRequest { term, id: id.into(), code, message: message.into(), keep_seconds, ..Default::default() }
}

async fn leases(home: &Home) -> Vec<msg::Lease> {
    let request = msg::ListLeasesRequest { namespace: NS.into(), ..Default::default() };
    home.metadata.list_leases(request).await.unwrap().leases
}

async fn protect(home: &Home, lease: &str) {
    let resources = vec![msg::Resource { r#type: "content".into(), id: digest("x") }];
    let request = msg::AddLeaseResourcesRequest { namespace: NS.into(), id: lease.into(), resources };
    home.metadata.add_lease_resources(request).await.unwrap();
}

async fn a_pull_comes_and_goes_with_its_lease_and_its_events(home: Home) {
    let p = &home.pulls;
    let term = lead(&home).await;
    let created = p.create_pull(create(term, "a1")).await.unwrap();
    assert_eq!((created.lease.as_str(), created.starts, created.state()), ("pull-a1", 1, State::Running));
    assert_eq!(p.create_pull(create(term, "a1")).await.unwrap(), created, "sent again");
    let other = msg::PullRecord { reference: "h/other:1".into(), ..created.clone() };
    let other = msg::CreatePullRequest { pull: Some(other), ..create(term, "") };
    refused(p.create_pull(other).await, Code::AlreadyExists, &["a1", "h/app:1"]);
    assert_eq!(leases(&home).await[0].id, "pull-a1");

    let progress = Some(msg::PullProgress { total: 7, ..Default::default() });
    let update = msg::UpdatePullRequest { term, id: "a1".into(), progress, detach: true, ..Default::default() };
    let updated = p.update_pull(update.clone()).await.unwrap();
    assert!(updated.detached && updated.progress == progress);
    let urgent = msg::UpdatePullRequest { priority: Some(msg::Priority::High.into()), ..update.clone() };
    assert_eq!(p.update_pull(urgent).await.unwrap().priority(), msg::Priority::High);

    let ended = p.end_pull(end(term, "a1", Code::Unknown, 0)).await.unwrap();
    assert_eq!((ended.state(), ended.ended_at.is_some(), ended.progress), (State::Done, true, progress));
    assert_eq!(p.end_pull(end(term, "a1", Code::Internal, 0)).await.unwrap(), ended, "the first end counts");
    assert!(leases(&home).await.is_empty());
    refused(p.update_pull(update).await, Code::FailedPrecondition, &["a1", "h/app:1", "over"]);
    let resume = msg::ResumePullRequest { term, id: "a1".into(), lease_seconds: 1 };
    refused(p.resume_pull(resume).await, Code::FailedPrecondition, &["over"]);
    assert_eq!(home.topics().await, ["/pulls/start", "/pulls/done"]);
}

async fn what_a_failed_pull_fetched_is_kept_for_a_while(home: Home) {
    let p = &home.pulls;
    let term = lead(&home).await;
    for id in ["a1", "a2"] {
        p.create_pull(create(term, id)).await.unwrap();
    }
    protect(&home, "pull-a1").await;
    for id in ["a1", "a2"] {
        p.end_pull(end(term, id, Code::Cancelled, 3600)).await.unwrap();
    }
    let left = leases(&home).await;
    assert!(left.len() == 1 && left[0].id == "pull-a1", "one that keeps nothing goes at once: {left:?}");
    let events = home.events().await;
    let (_, topic, facts) = events.last().unwrap();
    assert_eq!(
        (topic.as_str(), &facts["code"], &facts["message"]),
        ("/pulls/fail", &"cancelled".into(), &"why".into())
    );
}

async fn what_was_prepared_and_not_used_goes_with_the_end(home: Home) {
    let (p, m) = (&home.pulls, &home.metadata);
    let term = lead(&home).await;
    p.create_pull(create(term, "a1")).await.unwrap();
    let mut unfilled = Vec::new();
    for key in ["used", "unused", "replaced", "gone"] {
        let request = msg::PrepareSnapshotRequest {
            namespace: NS.into(),
            snapshotter: "overlayfs".into(),
            key: key.into(),
            kind: msg::snapshot::Kind::Active.into(),
            replace: true,
            ..Default::default()
        };
        let id = m.prepare_snapshot(request.clone()).await.unwrap().snapshot.unwrap().id;
        if key == "replaced" {
            m.prepare_snapshot(request).await.unwrap();
        }
        if key != "used" {
            unfilled.push(msg::end_pull_request::Unfilled { snapshotter: "overlayfs".into(), key: key.into(), id });
        }
    }
    let gone =
        msg::RemoveSnapshotRequest { namespace: NS.into(), snapshotter: "overlayfs".into(), key: "gone".into(), id: 0 };
    m.remove_snapshot(gone).await.unwrap();
    p.end_pull(msg::EndPullRequest { unfilled, ..end(term, "a1", Code::Cancelled, 0) }).await.unwrap();
    let list =
        msg::ListSnapshotsRequest { namespace: NS.into(), snapshotter: "overlayfs".into(), ..Default::default() };
    let left = m.list_snapshots(list).await.unwrap().snapshots;
    assert_eq!(left.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["replaced", "used"]);
    let topics = home.topics().await;
    assert_eq!(topics[topics.len() - 2..], ["/snapshot/remove", "/pulls/fail"]);
}

async fn a_pull_is_taken_up_again_also_when_its_lease_is_over(home: Home) {
    let p = &home.pulls;
    let term = lead(&home).await;
    p.create_pull(create(term, "a1")).await.unwrap();
    let resume = msg::ResumePullRequest { term, id: "a1".into(), lease_seconds: 5000 };
    let before = leases(&home).await[0].expires_at.unwrap().seconds;
    assert_eq!(p.resume_pull(resume.clone()).await.unwrap().starts, 2);
    assert!(leases(&home).await[0].expires_at.unwrap().seconds > before + 4000);
    let gone = msg::DeleteLeaseRequest { namespace: NS.into(), id: "pull-a1".into() };
    home.metadata.delete_lease(gone).await.unwrap();
    assert_eq!(p.resume_pull(resume).await.unwrap().starts, 3);
    assert_eq!(leases(&home).await.len(), 1, "a new one");
    let missing = msg::ResumePullRequest { term, id: "b2".into(), lease_seconds: 1 };
    refused(p.resume_pull(missing).await, Code::NotFound, &["b2"]);
}

async fn only_the_newest_leader_writes(home: Home) {
    let p = &home.pulls;
    let first = lead(&home).await;
    p.create_pull(create(first, "a1")).await.unwrap();
    let waits = msg::BeginTermRequest { silent_for_ms: 60_000, ..Default::default() };
    refused(p.begin_term(waits.clone()).await, Code::Aborted, &["leads"]);
    let second = lead(&home).await;
    assert!(second > first);
    let stale = "another transfer service leads";
    refused(p.create_pull(create(first, "a2")).await, Code::Aborted, &[stale]);
    refused(p.end_pull(end(first, "a1", Code::Unknown, 0)).await, Code::Aborted, &[stale]);
    let update = msg::UpdatePullRequest { term: first, id: "a1".into(), detach: true, ..Default::default() };
    refused(p.update_pull(update).await, Code::Aborted, &[stale]);
    refused(p.hold_term(msg::HoldTermRequest { term: first, end: false }).await, Code::Aborted, &["term 2"]);
    assert_eq!(leases(&home).await.len(), 1, "and nothing was done to its lease");
    p.hold_term(msg::HoldTermRequest { term: second, end: false }).await.unwrap();
    refused(p.begin_term(waits.clone()).await, Code::Aborted, &["leads"]);
    // One that says that it goes is not waited for.
    p.hold_term(msg::HoldTermRequest { term: second, end: true }).await.unwrap();
    assert_eq!(p.begin_term(waits).await.unwrap().term, second + 1);
}

async fn of_ended_pulls_the_newest_are_kept(home: Home) {
    let p = &home.pulls;
    let term = lead(&home).await;
    for id in ["a1", "a2", "a3", "a4", "b1"] {
        p.create_pull(create(term, id)).await.unwrap();
        if id != "b1" {
            p.end_pull(end(term, id, Code::Unknown, 0)).await.unwrap();
        }
    }
    let list = async |request: msg::ListPullRecordsRequest| {
        let reply = p.list_pull_records(request).await.unwrap();
        (reply.pulls.into_iter().map(|pull| pull.id).collect::<Vec<_>>(), reply.more)
    };
    assert_eq!(list(Default::default()).await, (vec!["a3".into(), "a4".into(), "b1".into()], false));
    let running = msg::ListPullRecordsRequest { running: true, ..Default::default() };
    assert_eq!(list(running).await, (vec!["b1".into()], false));
    let page = msg::ListPullRecordsRequest { namespace: NS.into(), limit: 1, after: "a3".into(), ..Default::default() };
    assert_eq!(list(page).await, (vec!["a4".into()], true));
    let elsewhere = msg::ListPullRecordsRequest { namespace: "other".into(), ..Default::default() };
    assert_eq!(list(elsewhere).await, (vec![], false));
    let get = |id: &str| p.get_pull_record(msg::GetPullRecordRequest { id: id.into() });
    refused(get("a1").await, Code::NotFound, &["a1", "ended long ago"]);
    assert_eq!(get("b1").await.unwrap().state(), State::Running);
}

crate::in_both_homes! {
    a_pull_comes_and_goes_with_its_lease_and_its_events
    what_a_failed_pull_fetched_is_kept_for_a_while
    what_was_prepared_and_not_used_goes_with_the_end
    a_pull_is_taken_up_again_also_when_its_lease_is_over
    only_the_newest_leader_writes
    of_ended_pulls_the_newest_are_kept
}
