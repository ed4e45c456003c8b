//! The relay against a real nats-server: every event once by its id, in order, whoever is restarted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::metadata::{Metadata, MetadataClient};
use berth_bus::{Bus, BusEvent, EventStream, NatsOptions};
use berth_metadata::{Config, Service};
use berth_model::{Code, Digest};
use berth_testing::nats_server::NatsServer;
use berth_wire::metadata as msg;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(server: &NatsServer) -> Bus {
    Bus::connect(NatsOptions::new(server.url(), "test")).await.unwrap()
}

/// Opens, as soon as whoever held it is gone.
async fn open(config: &Config) -> Arc<Service> {
    let begun = Instant::now();
    loop {
        match berth_metadata::open(config.clone()).await {
            Ok(service) => return service,
            Err(status) => assert!(status.code == Code::FailedPrecondition && begun.elapsed() < PATIENCE, "{status}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn relaying(root: &Path, retention: u64, bus: &Bus) -> Arc<Service> {
    let service = open(&Config { event_retention: retention, ..Config::new(root) }).await;
    service.relay_to(bus.clone()).await.unwrap();
    service
}

async fn record(metadata: &dyn Metadata, namespace: &str, seed: usize) {
    let digest = Digest::of(seed.to_string().as_bytes()).to_string();
    let entry = msg::put_content_request::Entry { digest, size: 1, ..Default::default() };
    metadata
        .put_content(msg::PutContentRequest { namespace: namespace.into(), entries: vec![entry], ..Default::default() })
        .await
        .unwrap();
}

async fn next(events: &mut EventStream) -> BusEvent {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event within a minute");
    event.unwrap().unwrap()
}

/// The sequences of the next events.
async fn sequences(events: &mut EventStream, count: usize) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count {
        let body: Value = serde_json::from_slice(&next(events).await.body).unwrap();
        found.push(body["sequence"].as_u64().unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_as_a_subscriber_sees_it() {
    let (server, root) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let bus = connect(&server).await;
    let mut all = bus.subscribe(">").await.unwrap();
    let mut content_of_any_namespace = bus.subscribe("*.content.>").await.unwrap();
    let serving = berth_metadata::start(&bus, Config::new(root.path())).await.unwrap();
    let metadata = MetadataClient::new(connect(&server).await);
    record(&metadata, "k8s.io", 1).await;
    let event = next(&mut all).await;
    assert_eq!(next(&mut content_of_any_namespace).await.id, event.id);
    let read = metadata.read_events(msg::ReadEventsRequest::default()).await.unwrap();
    let at = read.events[0].at.unwrap().to_string();
    assert_eq!(event.subject, "k8s%2Eio.content.create");
    assert_eq!(event.id, format!("{}-1", read.outbox_id));
    let header = |name: &str| event.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str());
    assert_eq!(header("ce-id"), Some(event.id.as_str()));
    assert_eq!(header("ce-source"), Some(format!("berth/{}", read.outbox_id).as_str()));
    assert_eq!(header("ce-type"), Some("io.berth.content.create"));
    assert_eq!(header("ce-time"), Some(at.as_str()));
    assert_eq!(header("ce-specversion"), Some("1.0"));
    assert_eq!(header("content-type"), Some("application/json"));
    let digest = Digest::of(b"1").to_string();
    assert_eq!(
        serde_json::from_slice::<Value>(&event.body).unwrap(),
        json!({
            "namespace": "k8s.io", "topic": "/content/create", "sequence": 1, "at": at,
            "event": { "digest": digest, "size": 1 },
        })
    );
    drop(serving);
    // The guards are all that holds the store: it can be opened again.
    open(&Config::new(root.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_relay_goes_on_where_it_was() {
    let (server, root) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let bus = connect(&server).await;
    let mut events = bus.subscribe("ns.>").await.unwrap();
    // What happened before there was a NATS is told first.
    let alone = open(&Config::new(root.path())).await;
    for n in 0..5 {
        record(&*alone, "ns", n).await;
    }
    drop(alone);
    for round in 1..=4 {
        let service = relaying(root.path(), 1000, &bus).await;
        for n in 0..20 {
            record(&*service, "ns", round * 100 + n).await;
        }
        // Dropped in the middle of its work, but for the last round.
        if round == 4 {
            assert_eq!(sequences(&mut events, 85).await, (1..=85).collect::<Vec<_>>());
        }
    }
    let service = relaying(root.path(), 1000, &bus).await;
    record(&*service, "ns", 9999).await;
    assert_eq!(sequences(&mut events, 1).await, [86], "nothing came twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_misses_nothing() {
    let (mut server, root) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let bus = connect(&server).await;
    let mut events = bus.subscribe("ns.>").await.unwrap();
    // So short a retention that only the relay's need keeps the events.
    let service = relaying(root.path(), 2, &bus).await;
    record(&*service, "ns", 0).await;
    assert_eq!(sequences(&mut events, 1).await, [1]);
    server.stop();
    for n in 1..60 {
        record(&*service, "ns", n).await;
    }
    let newest = msg::ReadEventsRequest { after: 1, ..Default::default() };
    assert_eq!(service.read_events(newest).await.unwrap().events.len(), 59, "kept for the relay");
    server.restart().unwrap();
    assert_eq!(sequences(&mut events, 59).await, (2..=60).collect::<Vec<_>>());

    // Relayed, they may go.
    let begun = Instant::now();
    let mut n = 60;
    loop {
        record(&*service, "ns", n).await;
        n += 1;
        let old = msg::ReadEventsRequest { after: 1, ..Default::default() };
        match service.read_events(old).await {
            Err(status) if status.code == Code::OutOfRange => break,
            _ => assert!(begun.elapsed() < PATIENCE, "event 2 is still kept"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursor_is_the_stores_own() {
    let (first, second) = (NatsServer::start().unwrap(), NatsServer::start().unwrap());
    let root = tempfile::tempdir().unwrap();
    for (server, from) in [(first, 1), (second, 11)] {
        let bus = connect(&server).await;
        let mut events = bus.subscribe("ns.>").await.unwrap();
        let service = relaying(root.path(), 1000, &bus).await;
        for n in 0..10 {
            record(&*service, "ns", from * 100 + n).await;
        }
        let seen = sequences(&mut events, 10).await;
        // The cursor moves behind all that was read together. What comes to be when those were seen is read after it has
        // moved; so only this last one may come again.
        record(&*service, "ns", from * 100 + 10).await;
        sequences(&mut events, 1).await;
        assert!(seen[0] >= from as u64, "the server is new, the events are not: {seen:?}");
    }
}
