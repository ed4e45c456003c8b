//! An event as containerd's clients get it: the message they know by its type, packed into an envelope. Its fields, for
//! filters, are found by the message's description, whoever sent it.

use std::{borrow::Cow, sync::LazyLock};

use berth_model::{Status, filter::Fields};
use berth_wire::{containerd::types::Envelope, metadata as msg};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};
use prost_types::Any;

use crate::containerd::convert::timestamp;

/// Our events: topic, and the message that tells it. Those of images are in the package of their service, unlike the rest.
const TYPES: &[(&str, &str)] = &[
    ("/images/create", "containerd.services.images.v1.ImageCreate"),
    ("/images/update", "containerd.services.images.v1.ImageUpdate"),
    ("/images/delete", "containerd.services.images.v1.ImageDelete"),
    ("/content/create", "containerd.events.ContentCreate"),
    ("/content/delete", "containerd.events.ContentDelete"),
    ("/snapshot/prepare", "containerd.events.SnapshotPrepare"),
    ("/snapshot/commit", "containerd.events.SnapshotCommit"),
    ("/snapshot/remove", "containerd.events.SnapshotRemove"),
    ("/namespaces/create", "containerd.events.NamespaceCreate"),
    ("/namespaces/update", "containerd.events.NamespaceUpdate"),
    ("/namespaces/delete", "containerd.events.NamespaceDelete"),
    ("/containers/create", "containerd.events.ContainerCreate"),
    ("/containers/update", "containerd.events.ContainerUpdate"),
    ("/containers/delete", "containerd.events.ContainerDelete"),
];

/// The messages that are known.
static POOL: LazyLock<Result<DescriptorPool, Status>> = LazyLock::new(|| {
    DescriptorPool::decode(berth_wire::DESCRIPTORS)
        .map_err(|error| Status::internal(format!("the descriptions of messages are damaged: {error}")))
});

/// An event and, if its type is known, its fields.
pub(super) struct Event {
    pub(super) envelope: Envelope,
    message: Option<DynamicMessage>,
}

impl Event {
    pub(super) fn read(event: msg::Event) -> Result<Self, Status> {
        let (any, message) = match event.payload {
            Some(payload) => {
                let message = known(&payload.type_url)?
                    .and_then(|known| DynamicMessage::decode(known, payload.value.as_slice()).ok());
                (Any { type_url: payload.type_url, value: payload.value }, message)
            }
            None => {
                let message = ours(&event.topic, &event.json)?;
                let type_url = message.descriptor().full_name().to_owned();
                (Any { type_url, value: message.encode_to_vec() }, Some(message))
            }
        };
        let (namespace, topic) = (event.namespace, event.topic);
        Ok(Self { envelope: Envelope { timestamp: timestamp(event.at), namespace, topic, event: Some(any) }, message })
    }
}

fn known(name: &str) -> Result<Option<prost_reflect::MessageDescriptor>, Status> {
    let pool = POOL.as_ref().map_err(Clone::clone)?;
    // Some senders write the name as a url.
    let name = name.rsplit('/').next().unwrap_or(name);
    Ok(pool.get_message_by_name(name))
}

/// One of our own events as a message.
fn ours(topic: &str, json: &str) -> Result<DynamicMessage, Status> {
    let wrong = |why: String| Status::internal(format!("the event {json} of {topic} cannot be told: {why}"));
    let (_, name) = TYPES
        .iter()
        .find(|(known, _)| *known == topic)
        .ok_or_else(|| wrong("no message is known for that topic".to_owned()))?;
    let known = known(name)?.ok_or_else(|| wrong(format!("{name} has no description")))?;
    let mut reader = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(known, &mut reader).map_err(|error| wrong(error.to_string()))
}

impl Fields for Event {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["namespace"] => Some(self.envelope.namespace.as_str().into()),
            ["topic"] => Some(self.envelope.topic.as_str().into()),
            ["event", path @ ..] => field_of(self.message.as_ref()?, path).map(Cow::Owned),
            _ => None,
        }
    }
}

/// Text, numbers and truth; for a map, the rest of the path is the key.
fn field_of(message: &DynamicMessage, path: &[&str]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    match (&*message.get_field_by_name(first)?, rest) {
        (Value::Message(inner), rest) if !rest.is_empty() => field_of(inner, rest),
        (Value::Map(map), rest) if !rest.is_empty() => {
            map.get(&prost_reflect::MapKey::String(rest.join("."))).and_then(Value::as_str).map(str::to_owned)
        }
        (Value::String(text), []) => Some(text.clone()),
        (Value::Bool(yes), []) => Some(yes.to_string()),
        (Value::I32(number), []) => Some(number.to_string()),
        (Value::I64(number), []) => Some(number.to_string()),
        (Value::U32(number), []) => Some(number.to_string()),
        (Value::U64(number), []) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use berth_model::filter::Filters;
    use berth_wire::containerd::{event, rpc};
    use prost::Message;

    use super::*;

    fn stored(topic: &str, json: &str) -> msg::Event {
        msg::Event { namespace: "n".into(), topic: topic.into(), json: json.into(), ..msg::Event::default() }
    }

    #[test]
    fn every_type_has_a_description() {
        for (topic, name) in TYPES {
            let read = Event::read(stored(topic, "{}")).unwrap();
            assert_eq!(read.envelope.event.unwrap().type_url, *name);
        }
        assert!(Event::read(stored("/other", "{}")).is_err());
        assert!(
            Event::read(stored("/images/create", "{\"nam\":1}")).is_err(),
            "what is not of the message is not lost"
        );
    }

    #[test]
    fn our_events_are_the_messages_clients_know() {
        let read = Event::read(stored("/content/create", r#"{"digest":"d","media_type":"m","size":7}"#)).unwrap();
        let any = read.envelope.event.unwrap();
        let expected = event::ContentCreate { digest: "d".into(), size: 7, media_type: "m".into() };
        assert_eq!(event::ContentCreate::decode(any.value.as_slice()).unwrap(), expected);
        let json = r#"{"id":"c","image":"i","labels":{"a.b":"1"},"snapshot_key":"k"}"#;
        let any = Event::read(stored("/containers/update", json)).unwrap().envelope.event.unwrap();
        let found = event::ContainerUpdate::decode(any.value.as_slice()).unwrap();
        assert_eq!((found.snapshot_key.as_str(), found.labels["a.b"].as_str()), ("k", "1"));
    }

    #[test]
    fn filters_see_fields_as_a_table() {
        let json = r#"{"id":"c","image":"i","runtime":{"name":"r"}}"#;
        let ours = Event::read(stored("/containers/create", json)).unwrap();
        let labelled = Event::read(stored("/images/update", r#"{"name":"x","labels":{"a.b":"1"}}"#)).unwrap();
        let status = rpc::Status { code: 5, ..rpc::Status::default() };
        let payload = msg::Payload { type_url: "types/google.rpc.Status".into(), value: status.encode_to_vec() };
        let theirs = msg::Event { payload: Some(payload), ..stored("/x", "") };
        let theirs = Event::read(theirs).unwrap();
        let payload = msg::Payload { type_url: "un.Known".into(), value: vec![255] };
        let unknown = Event::read(msg::Event { payload: Some(payload), ..stored("/y", "") }).unwrap();
        for (event, filter, wanted) in [
            (&ours, "topic==/containers/create", false),
            (&ours, "topic==\"/containers/create\"", true),
            (&ours, "topic~=|^/containers/|,namespace==n", true),
            (&ours, "event.id==c,event.runtime.name==r", true),
            (&ours, "event.runtime==r", false),
            (&ours, "event.nothing", false),
            (&labelled, "event.labels.a.b==1", true),
            (&labelled, "event.labels.\"a.b\"==2", false),
            (&theirs, "event.code==5", true),
            (&unknown, "event.code", false),
            (&unknown, "topic==\"/y\"", true),
        ] {
            let found = Filters::parse(&[filter]).map(|filters| filters.matches(event));
            assert_eq!(found.unwrap_or(false), wanted, "{filter}");
        }
    }
}
