//! The life of pulls as callers see it: attaching, leaving, abandoning, failing. The services behind are doubles that
//! answer as scripted; whole pulls on real services are tested by `integration-tests`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_api::transfer::{Transfer, TransferClient};
use berth_bus::{Bus, Serving};
use berth_model::{Code, Status};
use berth_transfer::Config;
use berth_wire::{fetcher, metadata, transfer as msg, transfer::pull_state::Phase, unpacker};

/// Counts leases begun and ended; resolving waits until it is told how to answer.
struct Doubles {
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    answer: tokio::sync::watch::Sender<Option<Status>>,
    _serving: Vec<Serving>,
}

async fn doubles(bus: &Bus) -> Doubles {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let answer = tokio::sync::watch::Sender::new(None);
    let (b, e, a) = (Arc::clone(&begun), Arc::clone(&ended), answer.clone());
    let serving = vec![
        bus.serve(|_: unpacker::CheckHostRequest| async { Ok(unpacker::CheckHostReply {}) }).await.unwrap(),
        bus.serve(move |_: metadata::CreateLeaseRequest| {
            b.fetch_add(1, Ordering::SeqCst);
            async { Ok(metadata::Lease { id: "l".into(), ..Default::default() }) }
        })
        .await
        .unwrap(),
        bus.serve(move |_: metadata::DeleteLeaseRequest| {
            e.fetch_add(1, Ordering::SeqCst);
            async { Ok(metadata::DeleteLeaseReply {}) }
        })
        .await
        .unwrap(),
        bus.serve(move |_: fetcher::ResolveRequest| {
            let mut answer = a.subscribe();
            async move { Err(answer.wait_for(Option::is_some).await.unwrap().clone().unwrap()) }
        })
        .await
        .unwrap(),
    ];
    Doubles { begun, ended, answer, _serving: serving }
}

fn request(reference: &str, secret: &str) -> msg::StartPullRequest {
    msg::StartPullRequest {
        namespace: "default".into(),
        reference: reference.into(),
        access: Some(fetcher::Access { username: "u".into(), secret: secret.into(), plain_http: false }),
        ..Default::default()
    }
}

async fn end_of(client: &TransferClient, pull_id: &str) -> msg::PullState {
    let mut seen = 0;
    loop {
        let watch = msg::WatchPullRequest { pull_id: pull_id.into(), seen, wait_ms: 10_000 };
        let state = client.watch_pull(watch).await.unwrap();
        if matches!(state.phase(), Phase::Done | Phase::Failed) {
            return state;
        }
        seen = state.version;
    }
}

#[tokio::test]
async fn equal_pulls_are_one_and_the_last_to_leave_cancels() {
    let bus = Bus::in_process();
    let doubles = doubles(&bus).await;
    let _serving = berth_transfer::start(&bus, Config::default()).await.unwrap();
    let client = TransferClient::new(bus.clone());

    let first = client.start_pull(request("alpine", "s")).await.unwrap();
    let second = client.start_pull(request("docker.io/library/alpine:latest", "s")).await.unwrap();
    let other = client.start_pull(request("alpine", "another secret")).await.unwrap();
    assert!(!first.attached && second.attached && !other.attached);
    assert_eq!(first.pull_id, second.pull_id);
    assert_ne!(first.pull_id, other.pull_id, "somebody else's credentials are not borrowed");

    let leave = || client.leave_pull(msg::LeavePullRequest { pull_id: first.pull_id.clone() });
    leave().await.unwrap();
    let access = client.get_access(msg::GetAccessRequest { pull_id: first.pull_id.clone() }).await.unwrap();
    assert_eq!(access.secret, "s", "one watcher is left, it runs on");
    leave().await.unwrap();
    let state = end_of(&client, &first.pull_id).await;
    assert_eq!(Code::from_number(state.code), Code::Cancelled, "{}", state.message);
    client.leave_pull(msg::LeavePullRequest { pull_id: other.pull_id.clone() }).await.unwrap();
    end_of(&client, &other.pull_id).await;
    assert_eq!(
        doubles.begun.load(Ordering::SeqCst),
        doubles.ended.load(Ordering::SeqCst),
        "cancelled pulls end their leases"
    );

    let gone = client.get_access(msg::GetAccessRequest { pull_id: first.pull_id.clone() }).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound, "no access outlives its pull");
}

#[tokio::test]
async fn a_pull_nobody_watches_is_given_up() {
    let bus = Bus::in_process();
    let _doubles = doubles(&bus).await;
    let config = Config { abandoned_after: Duration::from_millis(50), ..Config::default() };
    let _serving = berth_transfer::start(&bus, config).await.unwrap();
    let client = TransferClient::new(bus.clone());
    let pull = client.start_pull(request("alpine", "")).await.unwrap();
    // Watching keeps it; a single long poll is shorter than the silence allowed, so the loop in `end_of` would keep it
    // for ever. Ask for its access instead, which is no watching, until it is over.
    let over = async {
        while client.get_access(msg::GetAccessRequest { pull_id: pull.pull_id.clone() }).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("it is given up");
    let state = end_of(&client, &pull.pull_id).await;
    assert!(state.message.contains("nobody watched"), "{}", state.message);
}

#[tokio::test]
async fn a_failure_keeps_its_code_and_bad_wishes_are_refused() {
    let bus = Bus::in_process();
    let doubles = doubles(&bus).await;
    doubles.answer.send_replace(Some(Status::not_found("alpine: no such tag")));
    let _serving = berth_transfer::start(&bus, Config::default()).await.unwrap();
    let client = TransferClient::new(bus.clone());
    let pull = client.start_pull(request("alpine", "")).await.unwrap();
    let state = end_of(&client, &pull.pull_id).await;
    assert_eq!((Code::from_number(state.code), state.message.as_str()), (Code::NotFound, "alpine: no such tag"));
    assert_eq!(doubles.ended.load(Ordering::SeqCst), 1);

    for bad in ["", "A/B", "https://x/y"] {
        assert_eq!(client.start_pull(request(bad, "")).await.unwrap_err().code, Code::InvalidArgument, "{bad:?}");
    }
    let odd_namespace = msg::StartPullRequest { namespace: "../x".into(), ..request("alpine", "") };
    assert_eq!(client.start_pull(odd_namespace).await.unwrap_err().code, Code::InvalidArgument);
    let unknown =
        client.watch_pull(msg::WatchPullRequest { pull_id: "x".into(), ..Default::default() }).await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);
}
