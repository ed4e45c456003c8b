//! The outbox: order, long poll, bounds.

use std::time::{Duration, Instant};

use berth_model::Code;
use berth_wire::metadata as msg;

use crate::homes::{Home, NS, digest, refused};

fn read(after: u64, limit: u32, wait_ms: u32) -> msg::ReadEventsRequest {
    msg::ReadEventsRequest { after, limit, wait_ms }
}

async fn record(home: &Home, seed: &str) {
    let entry = msg::put_content_request::Entry { digest: digest(seed), size: 1, ..Default::default() };
    let request = msg::PutContentRequest { namespace: NS.into(), entries: vec![entry], ..Default::default() };
    home.metadata.put_content(request).await.unwrap();
}

async fn events_are_numbered_from_one_and_read_in_pages(home: Home) {
    let m = &home.metadata;
    let none = m.read_events(read(0, 0, 0)).await.unwrap();
    assert_eq!((none.events.len(), none.last), (0, 0));
    assert!(!none.outbox_id.is_empty());
    for n in 0..10 {
        record(&home, &format!("{n}")).await;
    }
    let numbers = |reply: &msg::ReadEventsReply| reply.events.iter().map(|event| event.sequence).collect::<Vec<_>>();
    let page = m.read_events(read(0, 4, 0)).await.unwrap();
    assert_eq!((numbers(&page), page.last), (vec![1, 2, 3, 4], 10));
    assert_eq!(page.outbox_id, none.outbox_id);
    assert!(page.events.iter().all(|event| event.at.is_some() && event.namespace == NS));
    assert_eq!(numbers(&m.read_events(read(8, 0, 0)).await.unwrap()), [9, 10]);
    assert!(m.read_events(read(10, 0, 0)).await.unwrap().events.is_empty());
    let newest = m.read_events(read(u64::MAX, 0, 60_000)).await.unwrap();
    assert_eq!((newest.events.len(), newest.last), (0, 10), "the greatest number asks where the end is");
    refused(m.read_events(read(11, 0, 60_000)).await, Code::OutOfRange, &["ends at 10"]);
}

async fn a_reader_is_woken_by_the_next_event(home: Home) {
    let m = std::sync::Arc::clone(&home.metadata);
    let begun = Instant::now();
    let reader = tokio::spawn(async move { m.read_events(read(0, 0, 60_000)).await });
    record(&home, "x").await;
    let reply = reader.await.unwrap().unwrap();
    assert_eq!((reply.events.len(), reply.last), (1, 1));
    assert!(begun.elapsed() < Duration::from_secs(30), "woken, not timed out");
}

async fn a_reader_is_answered_when_nothing_happens(home: Home) {
    let begun = Instant::now();
    let reply = home.metadata.read_events(read(0, 0, 50)).await.unwrap();
    assert_eq!((reply.events.len(), reply.last), (0, 0));
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

async fn a_refused_change_makes_no_event(home: Home) {
    let request = msg::DeleteContentRequest { namespace: NS.into(), digest: digest("x") };
    refused(home.metadata.delete_content(request).await, Code::NotFound, &[]);
    record(&home, "x").await;
    assert_eq!(home.topics().await, ["/content/create"]);
}

crate::in_both_homes! {
    events_are_numbered_from_one_and_read_in_pages
    a_reader_is_woken_by_the_next_event
    a_reader_is_answered_when_nothing_happens
    a_refused_change_makes_no_event
}
