//! Events, in any home.

use berth_bus::{BusEvent, EventStream};
use berth_model::Code;
use bytes::Bytes;

use crate::homes::{Home, within};

fn event(subject: &str, id: &str) -> BusEvent {
    BusEvent { subject: subject.to_owned(), id: id.to_owned(), headers: Vec::new(), body: Bytes::from(id.to_owned()) }
}

async fn next_id(events: &mut EventStream) -> String {
    within("event", events.next()).await.expect("the stream goes on").expect("no error").id
}

pub(crate) async fn filters_decide(home: Home) {
    let bus = home.bus().await;
    bus.publish(event("default.images.create", "before")).await.unwrap();
    let listener = home.bus().await;
    let mut all = listener.subscribe(">").await.unwrap();
    let mut images = listener.subscribe("*.images.*").await.unwrap();
    let mut one = listener.subscribe("k8s.images.delete").await.unwrap();
    for (subject, id) in [
        ("default.images.create", "1"),
        ("default.content.create", "2"),
        ("k8s.images.delete", "3"),
        ("default.images.delete", "4"),
    ] {
        bus.publish(event(subject, id)).await.unwrap();
    }
    for id in ["1", "2", "3", "4"] {
        assert_eq!(next_id(&mut all).await, id);
    }
    for id in ["1", "3", "4"] {
        assert_eq!(next_id(&mut images).await, id);
    }
    assert_eq!(next_id(&mut one).await, "3");
}

pub(crate) async fn repeated_ids_are_seen_once(home: Home) {
    let bus = home.bus().await;
    let mut events = bus.subscribe("a.>").await.unwrap();
    for id in ["1", "1", "2", "1", "3"] {
        bus.publish(event("a.b", id)).await.unwrap();
    }
    for id in ["1", "2", "3"] {
        assert_eq!(next_id(&mut events).await, id);
    }
}

pub(crate) async fn events_keep_headers_and_order(home: Home) {
    let bus = home.bus().await;
    let mut events = home.bus().await.subscribe("a").await.unwrap();
    let sent: Vec<_> = (0..500)
        .map(|n| BusEvent {
            subject: "a".into(),
            id: n.to_string(),
            headers: vec![("ce-type".into(), "x".into()), ("traceparent".into(), "00-1".into())],
            body: Bytes::from(vec![7; n]),
        })
        .collect();
    for event in &sent {
        bus.publish(event.clone()).await.unwrap();
    }
    for event in sent {
        let mut seen = within("event", events.next()).await.unwrap().unwrap();
        seen.headers.sort();
        assert_eq!(seen, event);
    }
}

pub(crate) async fn bad_subjects_are_refused(home: Home) {
    let bus = home.bus().await;
    for subject in ["", "a..b", "a.*", "a b"] {
        assert_eq!(bus.publish(event(subject, "1")).await.unwrap_err().code, Code::InvalidArgument, "{subject:?}");
    }
    assert_eq!(bus.subscribe("a.>.b").await.unwrap_err().code, Code::InvalidArgument);
    let large = BusEvent { body: Bytes::from(vec![0; 1024 * 1024]), ..event("a", "1") };
    assert_eq!(bus.publish(large).await.unwrap_err().code, Code::InvalidArgument);
}

pub(crate) async fn two_buses_are_two(home: Home) {
    let (bus, other) = (home.bus().await, home.other_bus().await);
    let mut events = other.subscribe(">").await.unwrap();
    bus.publish(event("a", "ours")).await.unwrap();
    other.publish(event("a", "theirs")).await.unwrap();
    assert_eq!(next_id(&mut events).await, "theirs");
}
