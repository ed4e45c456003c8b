//! The life of pulls as callers see it: attaching, leaving, abandoning, failing. The services behind are doubles that
//! answer as scripted; whole pulls on real services are tested by `integration-tests`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod records;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_api::{
    pull_records::PullRecords as _,
    transfer::{Transfer, TransferClient},
};
use berth_bus::{Bus, Serving};
use berth_model::{Code, Status};
use berth_transfer::Config;
use berth_wire::{
    fetcher,
    metadata::{self, pull_record::State},
    transfer as msg,
    transfer::pull_state::Phase,
    unpacker,
};
use records::Records;

/// Keeps records of pulls in memory; resolving waits until it is told how to answer, and is counted.
struct Doubles {
    records: Arc<Records>,
    resolved: Arc<AtomicUsize>,
    answer: tokio::sync::watch::Sender<Option<Status>>,
    serving: Vec<Serving>,
}

impl Doubles {
    async fn serve_records(&mut self, bus: &Bus) {
        let records = Arc::<Records>::clone(&self.records);
        self.serving.extend(berth_api::pull_records::serve(bus, records).await.unwrap());
    }

    fn running(&self) -> usize {
        self.records.all().iter().filter(|pull| pull.state() == State::Running).count()
    }
}

async fn doubles(bus: &Bus) -> Doubles {
    let mut doubles = without_records(bus).await;
    doubles.serve_records(bus).await;
    doubles
}

/// Metadata is still starting.
async fn without_records(bus: &Bus) -> Doubles {
    let records = Arc::new(Records::default());
    let resolved = Arc::new(AtomicUsize::new(0));
    let answer = tokio::sync::watch::Sender::new(None);
    let (r, a) = (Arc::clone(&resolved), answer.clone());
    let serving = vec![
        bus.serve(|_: unpacker::CheckHostRequest| async { Ok(unpacker::CheckHostReply {}) }).await.unwrap(),
        bus.serve(move |_: fetcher::ResolveRequest| {
            r.fetch_add(1, Ordering::SeqCst);
            let mut answer = a.subscribe();
            async move { Err(answer.wait_for(Option::is_some).await.unwrap().clone().unwrap()) }
        })
        .await
        .unwrap(),
    ];
    Doubles { records, resolved, answer, serving }
}

fn request(reference: &str, secret: &str) -> msg::StartPullRequest {
    let username = if secret.is_empty() { "" } else { "u" };
    msg::StartPullRequest {
        namespace: "default".into(),
        reference: reference.into(),
        access: Some(fetcher::Access { username: username.into(), secret: secret.into(), plain_http: false }),
        ..Default::default()
    }
}

async fn end_of(client: &TransferClient, pull_id: &str) -> msg::PullState {
    let mut seen = 0;
    loop {
        let watch = msg::WatchPullRequest { pull_id: pull_id.into(), seen, wait_ms: 10_000, ..Default::default() };
        let state = client.watch_pull(watch).await.unwrap();
        if matches!(state.phase(), Phase::Done | Phase::Failed) {
            return state;
        }
        seen = state.version;
    }
}

fn by(watcher: &str, request: msg::StartPullRequest) -> msg::StartPullRequest {
    msg::StartPullRequest { watcher: watcher.into(), ..request }
}

#[tokio::test]
async fn equal_pulls_are_one_and_the_last_to_leave_cancels() {
    let bus = Bus::in_process();
    let doubles = doubles(&bus).await;
    let _serving = berth_transfer::start(&bus, Config::default()).await.unwrap();
    let client = TransferClient::new(bus.clone());

    let first = client.start_pull(by("a", request("alpine", "s"))).await.unwrap();
    let second = client.start_pull(by("b", request("docker.io/library/alpine:latest", "s"))).await.unwrap();
    let other = client.start_pull(by("c", request("alpine", "another secret"))).await.unwrap();
    assert!(!first.attached && second.attached && !other.attached);
    assert_eq!(first.pull_id, second.pull_id);
    assert_ne!(first.pull_id, other.pull_id, "somebody else's credentials are not borrowed");
    assert_eq!(doubles.running(), 2, "what was begun is recorded");
    assert!(!format!("{:?}", doubles.records.all()).contains("secret"), "and no secret is");

    let leave = |pull: &str, watcher: &str| {
        client.leave_pull(msg::LeavePullRequest { pull_id: pull.to_owned(), watcher: watcher.to_owned() })
    };
    // Twice the same: who left is not counted again, and strangers are not counted at all.
    for watcher in ["a", "a", "nobody"] {
        leave(&first.pull_id, watcher).await.unwrap();
    }
    let access = client.get_access(msg::GetAccessRequest { pull_id: first.pull_id.clone() }).await.unwrap();
    assert_eq!(access.secret, "s", "one watcher is left, it runs on");
    leave(&first.pull_id, "b").await.unwrap();
    let state = end_of(&client, &first.pull_id).await;
    assert_eq!(Code::from_number(state.code), Code::Cancelled, "{}", state.message);
    leave(&other.pull_id, "c").await.unwrap();
    end_of(&client, &other.pull_id).await;
    assert_eq!(doubles.running(), 0, "their ends are recorded, with those of their leases");

    let gone = client.get_access(msg::GetAccessRequest { pull_id: first.pull_id.clone() }).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound, "no access outlives its pull");
}

#[tokio::test]
async fn the_registry_is_asked_while_metadata_starts_and_once_for_each_pull() {
    let bus = Bus::in_process();
    let mut doubles = without_records(&bus).await;
    let _serving = berth_transfer::start(&bus, Config { take_up: false, ..Config::default() }).await.unwrap();
    let client = TransferClient::new(bus.clone());
    let starting = tokio::spawn({
        let client = client.clone();
        async move { client.start_pull(by("a", request("alpine", ""))).await }
    });
    let asked = async {
        while doubles.resolved.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("the registry was not asked");
    assert!(!starting.is_finished(), "no pull is begun before it is recorded");
    doubles.serve_records(&bus).await;
    let first = starting.await.unwrap().unwrap();
    let second = client.start_pull(by("b", request("alpine", ""))).await.unwrap();
    assert!(second.attached && second.pull_id == first.pull_id);
    doubles.answer.send_replace(Some(Status::not_found("no such thing")));
    let state = end_of(&client, &first.pull_id).await;
    assert_eq!(Code::from_number(state.code), Code::NotFound, "{}", state.message);
    assert_eq!(doubles.resolved.load(Ordering::SeqCst), 1);
    let again = client.start_pull(by("a", request("alpine", ""))).await.unwrap();
    end_of(&client, &again.pull_id).await;
    assert_eq!(doubles.resolved.load(Ordering::SeqCst), 2);
}

/// Serves until it is stopped, as a process does that ends; another one then finds its pulls.
async fn until_stopped(bus: &Bus, config: &Config) -> Vec<Serving> {
    berth_transfer::start(bus, config.clone()).await.unwrap()
}

async fn stop(serving: Vec<Serving>) {
    for guard in serving {
        guard.stop().await;
    }
}

#[tokio::test]
async fn interrupted_pulls_are_taken_up_by_who_comes_after() {
    let bus = Bus::in_process();
    let doubles = doubles(&bus).await;
    let config = Config { abandoned_after: Duration::from_secs(5), ..Config::default() };
    let client = TransferClient::new(bus.clone());
    let first = until_stopped(&bus, &config).await;
    let detached = msg::StartPullRequest { detached: true, ..request("detached", "") };
    let detached = client.start_pull(detached).await.unwrap().pull_id;
    let waited_for = client.start_pull(by("a", request("waited/for", ""))).await.unwrap().pull_id;
    let secret = client.start_pull(by("b", request("secret", "s3cret"))).await.unwrap().pull_id;
    let forgotten = client.start_pull(by("c", request("forgotten", ""))).await.unwrap().pull_id;
    stop(first).await;
    assert_eq!(doubles.running(), 4, "to stop is not to cancel");
    let before = doubles.resolved.load(Ordering::SeqCst);

    let _second = until_stopped(&bus, &config).await;
    let watch = |pull: &str, watcher: &str| {
        let (pull_id, watcher) = (pull.to_owned(), watcher.to_owned());
        client.watch_pull(msg::WatchPullRequest { pull_id, watcher, ..Default::default() })
    };
    watch(&waited_for, "a").await.unwrap();
    // Without its credentials it does not go on; another's request does not bring them.
    watch(&secret, "b").await.unwrap();
    let listed = client.list_pulls(msg::ListPullsRequest::default()).await.unwrap().pulls;
    let dormant: Vec<_> = listed.iter().filter(|pull| pull.interrupted).map(id).collect();
    assert!(dormant.contains(&secret) && dormant.contains(&forgotten) && dormant.len() == 2, "{listed:#?}");
    let again = msg::StartPullRequest { pull_id: secret.clone(), ..by("b", request("secret", "s3cret")) };
    assert_eq!(client.start_pull(again).await.unwrap().pull_id, secret);
    let access = client.get_access(msg::GetAccessRequest { pull_id: secret.clone() }).await.unwrap();
    assert_eq!(access.secret, "s3cret");

    // Those who wait are heard meanwhile.
    let heard = async {
        loop {
            watch(&waited_for, "a").await.unwrap();
            watch(&secret, "b").await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let state = tokio::select! {
        state = end_of(&client, &forgotten) => state,
        () = heard => unreachable!("they never stop"),
    };
    assert!(state.message.contains("nobody who waits for it came back"), "{}", state.message);
    doubles.answer.send_replace(Some(Status::not_found("no such tag")));
    for pull in [&detached, &waited_for, &secret] {
        assert_eq!(end_of(&client, pull).await.message, "no such tag");
    }
    assert_eq!(doubles.resolved.load(Ordering::SeqCst) - before, 3, "three went on");
}

fn id(pull: &msg::PullSummary) -> String {
    pull.record.clone().unwrap_or_default().id
}

#[tokio::test]
async fn who_is_replaced_stands_by_and_records_nothing() {
    let bus = Bus::in_process();
    let doubles = doubles(&bus).await;
    let client = TransferClient::new(bus.clone());
    let first = until_stopped(&bus, &Config::default()).await;
    let request = msg::StartPullRequest { detached: true, ..request("alpine", "") };
    let pull = client.start_pull(request).await.unwrap().pull_id;
    // Another begins to lead, and the first one hears of it.
    doubles.records.begin_term(metadata::BeginTermRequest::default()).await.unwrap();
    doubles.answer.send_replace(Some(Status::not_found("no such tag")));
    stop(first).await;
    let record = doubles.records.all().into_iter().find(|record| record.id == pull).unwrap();
    assert_eq!(record.state(), State::Running, "its end is for the one that leads");
}

#[tokio::test]
async fn single_commands_leave_interrupted_pulls_alone() {
    let bus = Bus::in_process();
    let doubles = doubles(&bus).await;
    let single = Config { take_up: false, ..Config::default() };
    let client = TransferClient::new(bus.clone());
    let first = until_stopped(&bus, &single).await;
    let cut_off = client.start_pull(by("a", request("alpine", ""))).await.unwrap().pull_id;
    stop(first).await;
    let before = doubles.resolved.load(Ordering::SeqCst);
    let _second = until_stopped(&bus, &single).await;
    doubles.answer.send_replace(Some(Status::not_found("no such tag")));
    let other = client.start_pull(by("b", request("busybox", ""))).await.unwrap().pull_id;
    end_of(&client, &other).await;
    let listed = client.list_pulls(msg::ListPullsRequest::default()).await.unwrap().pulls;
    assert!(listed.len() == 1 && listed[0].interrupted && id(&listed[0]) == cut_off, "{listed:#?}");
    assert_eq!(doubles.resolved.load(Ordering::SeqCst) - before, 1, "only the other one was worked on");
    // Unless somebody asks for the same.
    assert_eq!(client.start_pull(by("c", request("alpine", ""))).await.unwrap().pull_id, cut_off);
    assert_eq!(end_of(&client, &cut_off).await.message, "no such tag");
}

#[tokio::test]
async fn a_pull_nobody_watches_is_given_up() {
    let bus = Bus::in_process();
    let _doubles = doubles(&bus).await;
    let config = Config { abandoned_after: Duration::from_millis(50), ..Config::default() };
    let _serving = berth_transfer::start(&bus, config).await.unwrap();
    let client = TransferClient::new(bus.clone());
    let pull = client.start_pull(by("a", request("alpine", ""))).await.unwrap();
    // Who gives no name only looks.
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
    let record = doubles.records.all().remove(0);
    assert_eq!((record.state(), record.message.as_str()), (State::Failed, "alpine: no such tag"));

    for bad in ["", "A/B", "https://x/y"] {
        assert_eq!(client.start_pull(request(bad, "")).await.unwrap_err().code, Code::InvalidArgument, "{bad:?}");
    }
    let odd_namespace = msg::StartPullRequest { namespace: "../x".into(), ..request("alpine", "") };
    assert_eq!(client.start_pull(odd_namespace).await.unwrap_err().code, Code::InvalidArgument);
    let unknown =
        client.watch_pull(msg::WatchPullRequest { pull_id: "x".into(), ..Default::default() }).await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);
}
