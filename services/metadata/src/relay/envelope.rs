//! How an event looks on NATS: where it goes, the id that de-duplicates it, CloudEvents headers, a JSON body.
//!
//! The headers are CloudEvents' binary mode (its NATS binding, version 1.0.2). The subject is `NAMESPACE.TOPIC` with dots
//! for the topic's slashes. A namespace may hold dots itself (`k8s.io`) and must stay one part of the subject, so that
//! `*.images.>` means what it says: its dots are written `%2E`, which no namespace can hold.

use base64::Engine as _;
use berth_bus::BusEvent;
use berth_wire::metadata as msg;
use serde_json::{Value, json};

/// The event as it is published.
pub(crate) fn of(outbox_id: &str, event: &msg::Event) -> BusEvent {
    if let Some(payload) = &event.payload {
        // Somebody else's: only they know what is in it.
        let value = base64::engine::general_purpose::STANDARD.encode(&payload.value);
        return with_body(outbox_id, event, &json!({ "type_url": payload.type_url, "value": value }));
    }
    let facts = serde_json::from_str(&event.json).unwrap_or_else(|_not_json| Value::String(event.json.clone()));
    with_body(outbox_id, event, &json!({ "event": facts }))
}

/// The event for a bus that does not carry it whole: everything but the facts.
pub(crate) fn without_facts(outbox_id: &str, event: &msg::Event) -> BusEvent {
    with_body(outbox_id, event, &json!({ "omitted": "the event is larger than the bus carries; ask berth for it" }))
}

fn with_body(outbox_id: &str, event: &msg::Event, rest: &Value) -> BusEvent {
    let id = format!("{outbox_id}-{}", event.sequence);
    let at = event.at.unwrap_or_default().to_string();
    let kind = event.topic.trim_matches('/').replace('/', ".");
    let mut body = json!({
        "namespace": event.namespace,
        "topic": event.topic,
        "sequence": event.sequence,
        "at": at,
    });
    if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
        body.extend(rest.clone());
    }
    let header = |name: &str, value: String| (name.to_owned(), value);
    BusEvent {
        subject: format!("{}.{kind}", event.namespace.replace('.', "%2E")),
        headers: vec![
            header("ce-specversion", "1.0".to_owned()),
            header("ce-id", id.clone()),
            header("ce-source", format!("berth/{outbox_id}")),
            header("ce-type", format!("io.berth.{kind}")),
            header("ce-time", at),
            header("content-type", "application/json".to_owned()),
        ],
        id,
        body: body.to_string().into_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use berth_wire::types;

    use super::*;

    fn event() -> msg::Event {
        msg::Event {
            sequence: 7,
            namespace: "k8s.io".into(),
            topic: "/images/create".into(),
            at: Some(types::Time { seconds: 1_700_000_000, nanos: 1 }),
            json: r#"{"name":"a"}"#.into(),
            payload: None,
        }
    }

    #[test]
    fn an_event_on_the_bus() {
        let found = of("box", &event());
        assert_eq!(found.subject, "k8s%2Eio.images.create");
        assert_eq!(found.id, "box-7");
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", "box-7"),
            ("ce-source", "berth/box"),
            ("ce-type", "io.berth.images.create"),
            ("ce-time", "2023-11-14T22:13:20.000000001Z"),
            ("content-type", "application/json"),
        ];
        assert_eq!(found.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(
            std::str::from_utf8(&found.body).unwrap(),
            r#"{"at":"2023-11-14T22:13:20.000000001Z","event":{"name":"a"},"namespace":"k8s.io","sequence":7,"topic":"/images/create"}"#
        );
    }

    #[test]
    fn somebody_elses_event_is_handed_on() {
        let payload = msg::Payload { type_url: "x.Y".into(), value: vec![1, 2, 255] };
        let found = of("box", &msg::Event { json: String::new(), payload: Some(payload), ..event() });
        let body: Value = serde_json::from_slice(&found.body).unwrap();
        assert_eq!((&body["type_url"], &body["value"]), (&json!("x.Y"), &json!("AQL/")));
    }

    #[test]
    fn what_is_too_large_is_still_announced() {
        let found = without_facts("box", &event());
        assert_eq!((found.subject.as_str(), found.id.as_str()), ("k8s%2Eio.images.create", "box-7"));
        let body: Value = serde_json::from_slice(&found.body).unwrap();
        assert!(body.get("event").is_none() && body.get("omitted").is_some());
    }
}
