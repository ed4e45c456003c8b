//! How an event looks on NATS: where it goes, the id that de-duplicates it, CloudEvents headers, and its body.
//!
//! `docs/events.asyncapi.yaml` is the contract, and a test holds it against what is made here. The headers are CloudEvents'
//! binary mode; the binding for NATS maps every attribute to a `ce-` header, also `datacontenttype`, and `content-type` is
//! sent besides for whoever reads no CloudEvents. The subject is `NAMESPACE.TOPIC` with dots for the topic's slashes. A
//! namespace may hold dots itself (`k8s.io`) and must stay one part of the subject, so that `*.images.>` means what it
//! says: its dots are written `%2E`, which no namespace can hold.

use base64::Engine as _;
use berth_bus::BusEvent;
use berth_wire::metadata as msg;
use prost::Message as _;
use serde_json::{Value, json};

use crate::config::EventEncoding;

/// What names the thing that an event is about, in the order of preference.
const NAMES: [&str; 4] = ["id", "digest", "name", "key"];

/// The event as it is published.
pub(crate) fn of(outbox_id: &str, event: &msg::Event, encoding: EventEncoding) -> BusEvent {
    let facts: Value = serde_json::from_str(&event.json).unwrap_or_default();
    let about = NAMES.iter().find_map(|name| facts.get(name)?.as_str()).unwrap_or_default().to_owned();
    let body = match (encoding, &event.payload) {
        (EventEncoding::Protobuf, _) => Body { kind: "application/protobuf", bytes: event.encode_to_vec() },
        // Somebody else's: only they know what is in it.
        (EventEncoding::Json, Some(payload)) => {
            let value = base64::engine::general_purpose::STANDARD.encode(&payload.value);
            in_json(event, &json!({ "type_url": payload.type_url, "value": value }))
        }
        (EventEncoding::Json, None) => in_json(event, &json!({ "event": facts })),
    };
    with_body(outbox_id, event, &about, body)
}

/// The event for a bus that does not carry it whole: everything but the facts.
pub(crate) fn without_facts(outbox_id: &str, event: &msg::Event, encoding: EventEncoding) -> BusEvent {
    let body = match encoding {
        EventEncoding::Protobuf => {
            let event = msg::Event { json: String::new(), payload: None, ..event.clone() };
            Body { kind: "application/protobuf", bytes: event.encode_to_vec() }
        }
        EventEncoding::Json => {
            in_json(event, &json!({ "omitted": "the event is larger than the bus carries; ask berth for it" }))
        }
    };
    with_body(outbox_id, event, "", body)
}

struct Body {
    kind: &'static str,
    bytes: Vec<u8>,
}

fn in_json(event: &msg::Event, rest: &Value) -> Body {
    let mut body = json!({
        "namespace": event.namespace,
        "topic": event.topic,
        "sequence": event.sequence,
        "at": event.at.unwrap_or_default().to_string(),
    });
    if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
        body.extend(rest.clone());
    }
    Body { kind: "application/json", bytes: body.to_string().into_bytes() }
}

fn with_body(outbox_id: &str, event: &msg::Event, about: &str, body: Body) -> BusEvent {
    let id = format!("{outbox_id}-{}", event.sequence);
    let kind = event.topic.trim_matches('/').replace('/', ".");
    let mut headers = Vec::new();
    let mut header = |name: &str, value: &str| {
        if !value.is_empty() {
            headers.push((name.to_owned(), percent_encoded(value)));
        }
    };
    header("ce-specversion", "1.0");
    header("ce-id", &id);
    header("ce-source", &format!("berth/{outbox_id}"));
    header("ce-type", &format!("io.berth.{kind}"));
    header("ce-subject", about);
    header("ce-time", &event.at.unwrap_or_default().to_string());
    header("ce-datacontenttype", body.kind);
    header("ce-sequence", &event.sequence.to_string());
    // Where the change was made: a subscriber that traces links to it.
    header("ce-traceparent", &event.traceparent);
    header("traceparent", &event.traceparent);
    header("content-type", body.kind);
    BusEvent {
        subject: format!("{}.{kind}", event.namespace.replace('.', "%2E")),
        headers,
        id,
        body: body.bytes.into(),
    }
}

/// A header's value as CloudEvents wants it: what is no visible ASCII, and the two signs that would be ambiguous, as `%XX`.
fn percent_encoded(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut text, byte| {
        match byte {
            b'"' | b'%' | 0..=b' ' | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
        text
    })
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
            ..msg::Event::default()
        }
    }

    #[test]
    fn an_event_on_the_bus() {
        let found = of("box", &event(), EventEncoding::Json);
        assert_eq!(found.subject, "k8s%2Eio.images.create");
        assert_eq!(found.id, "box-7");
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", "box-7"),
            ("ce-source", "berth/box"),
            ("ce-type", "io.berth.images.create"),
            ("ce-subject", "a"),
            ("ce-time", "2023-11-14T22:13:20.000000001Z"),
            ("ce-datacontenttype", "application/json"),
            ("ce-sequence", "7"),
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
        let found =
            of("box", &msg::Event { json: String::new(), payload: Some(payload), ..event() }, EventEncoding::Json);
        let body: Value = serde_json::from_slice(&found.body).unwrap();
        assert_eq!((&body["type_url"], &body["value"]), (&json!("x.Y"), &json!("AQL/")));
    }

    #[test]
    fn what_is_too_large_is_still_announced() {
        let found = without_facts("box", &event(), EventEncoding::Json);
        assert_eq!((found.subject.as_str(), found.id.as_str()), ("k8s%2Eio.images.create", "box-7"));
        let body: Value = serde_json::from_slice(&found.body).unwrap();
        assert!(body.get("event").is_none() && body.get("omitted").is_some());
    }

    #[test]
    fn in_protobuf_on_request() {
        let found = of("box", &event(), EventEncoding::Protobuf);
        assert_eq!(msg::Event::decode(found.body).unwrap(), event());
        assert!(found.headers.contains(&("ce-datacontenttype".into(), "application/protobuf".into())));
        let found = without_facts("box", &event(), EventEncoding::Protobuf);
        assert_eq!(msg::Event::decode(found.body).unwrap(), msg::Event { json: String::new(), ..event() });
    }

    #[test]
    fn headers_as_cloudevents_has_them() {
        for (value, encoded) in
            [("a/b:1", "a/b:1"), ("a b", "a%20b"), ("\"%\"", "%22%25%22"), ("\u{fc}\n", "%C3%BC%0A")]
        {
            assert_eq!(percent_encoded(value), encoded);
        }
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let found = of("box", &msg::Event { traceparent: parent.into(), ..event() }, EventEncoding::Json);
        for name in ["ce-traceparent", "traceparent"] {
            assert!(found.headers.contains(&(name.into(), parent.into())), "{name}");
        }
    }
}
