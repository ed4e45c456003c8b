//! The events service.

use berth_model::Code;
use berth_wire::containerd::{event, events as api, namespaces, types::Envelope};
use prost::Message as _;
use prost_types::{Any, Timestamp};
use tonic::Streaming;

use crate::{
    home::{Home, NS, refused, words},
    writer::put,
};

async fn subscribe(home: &Home, filters: &[&str]) -> Streaming<Envelope> {
    let request = api::SubscribeRequest { filters: words(filters) };
    home.events("").subscribe(request).await.unwrap().into_inner()
}

fn any(type_url: &str, value: &[u8]) -> Option<Any> {
    Some(Any { type_url: type_url.into(), value: value.to_vec() })
}

fn publish(topic: &str, event: Option<Any>) -> api::PublishRequest {
    api::PublishRequest { topic: topic.into(), event }
}

async fn next(events: &mut Streaming<Envelope>) -> Envelope {
    tokio::time::timeout(std::time::Duration::from_secs(30), events.message()).await.unwrap().unwrap().unwrap()
}

async fn what_is_published_is_heard_by_all(home: Home) {
    put(&home, NS, "before", b"before").await;
    let mut events = subscribe(&home, &[]).await;
    home.events(NS).publish(publish("/my/topic", any("my.Event", &[1, 2]))).await.unwrap();
    let then = Some(Timestamp { seconds: 5, nanos: 6 });
    let envelope = Envelope {
        timestamp: then,
        namespace: "elsewhere".into(),
        topic: "/tasks/exit".into(),
        event: any("containerd.events.TaskExit", b"?"),
    };
    home.events("").forward(api::ForwardRequest { envelope: Some(envelope.clone()) }).await.unwrap();
    let blob = put(&home, "third", "r", b"blob").await;
    let first = next(&mut events).await;
    assert_eq!((first.namespace.as_str(), first.topic.as_str()), (NS, "/my/topic"));
    assert_eq!(first.event, any("my.Event", &[1, 2]));
    assert!(first.timestamp.is_some());
    assert_eq!(next(&mut events).await, envelope);
    let third = next(&mut events).await;
    assert_eq!((third.namespace.as_str(), third.topic.as_str()), ("third", "/content/create"));
    let told = third.event.unwrap();
    assert_eq!(told.type_url, "containerd.events.ContentCreate");
    let told = event::ContentCreate::decode(told.value.as_slice()).unwrap();
    assert_eq!((told.digest, told.size), (blob, 4));
}

async fn filters_choose_what_is_heard(home: Home) {
    let mut by_topic = subscribe(&home, &["topic==\"/namespaces/create\""]).await;
    let mut by_field = subscribe(&home, &["event.name==two", "namespace==nowhere"]).await;
    let mut by_namespace = subscribe(&home, &["namespace==three,topic~=|^/namespaces/|"]).await;
    for name in ["one", "two", "three"] {
        home.events(name).publish(publish("/noise", any("x", b""))).await.unwrap();
        let namespace = Some(namespaces::Namespace { name: name.into(), ..Default::default() });
        home.namespaces().create(namespaces::CreateNamespaceRequest { namespace }).await.unwrap();
    }
    let name =
        |envelope: Envelope| event::NamespaceCreate::decode(envelope.event.unwrap().value.as_slice()).unwrap().name;
    for expected in ["one", "two", "three"] {
        assert_eq!(name(next(&mut by_topic).await), expected);
    }
    assert_eq!(name(next(&mut by_field).await), "two");
    assert_eq!(name(next(&mut by_namespace).await), "three");
    // containerd ends the stream with Unknown.
    let bad = api::SubscribeRequest { filters: words(&["topic="]) };
    refused(home.events("").subscribe(bad).await, Code::InvalidArgument, "filter");
}

async fn bad_events_are_refused(home: Home) {
    let mut client = home.events(NS);
    for topic in ["", "a/b", "/", "/a//b", "/a b", "/a/"] {
        refused(client.publish(publish(topic, any("x", b""))).await, Code::InvalidArgument, "topic");
    }
    refused(
        home.events("").publish(publish("/a", any("x", b""))).await,
        Code::FailedPrecondition,
        "namespace is required",
    );
    let good = Envelope {
        timestamp: Some(Timestamp { seconds: 1, nanos: 0 }),
        namespace: NS.into(),
        topic: "/a".into(),
        event: any("x", b""),
    };
    for bad in [
        None,
        Some(Envelope { timestamp: None, ..good.clone() }),
        Some(Envelope { timestamp: Some(Timestamp { seconds: 1, nanos: -1 }), ..good.clone() }),
        Some(Envelope { namespace: String::new(), ..good.clone() }),
        Some(Envelope { topic: "x".into(), ..good.clone() }),
    ] {
        refused(client.forward(api::ForwardRequest { envelope: bad }).await, Code::InvalidArgument, "");
    }
}

crate::in_every_home! {
    what_is_published_is_heard_by_all
    filters_choose_what_is_heard
    bad_events_are_refused
}
