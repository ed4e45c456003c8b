//! `berth events`.

use berth_wire::{
    gateway::{FollowRequest, WatchRequest},
    metadata::{Event, StateItem, state_item::Record},
};
use serde_json::{Value, json};

use crate::{cli::Events, client::Client, commands::refused, output};

pub(crate) async fn run(client: &Client, events: Events) -> anyhow::Result<()> {
    let namespace = if events.only_namespace { client.namespace.clone() } else { String::new() };
    if events.with_state {
        return with_state(client, namespace).await;
    }
    let request = FollowRequest {
        after: events.since.unwrap_or(0),
        only_new: events.since.is_none() && !events.until_now,
        namespace,
        until_now: events.until_now,
        outbox_id: String::new(),
    };
    let mut stream = client.events().follow(request).await.map_err(refused)?.into_inner();
    while let Some(event) = next(&mut stream).await? {
        output::print_json(&shown(&event))?;
    }
    Ok(())
}

async fn with_state(client: &Client, namespace: String) -> anyhow::Result<()> {
    let mut stream = client.events().watch(WatchRequest { namespace }).await.map_err(refused)?.into_inner();
    while let Some(reply) = next(&mut stream).await? {
        for item in &reply.items {
            output::print_json(&state(item))?;
        }
        if let Some(listed) = &reply.listed {
            output::print_json(&json!({ "listed": listed.sequence, "outbox": listed.outbox_id }))?;
        }
        for event in &reply.events {
            output::print_json(&shown(event))?;
        }
    }
    Ok(())
}

fn shown(event: &Event) -> Value {
    let body: Value = serde_json::from_str(&event.json).unwrap_or_default();
    let mut shown = json!({
        "sequence": event.sequence,
        "at": output::time(event.at.as_ref()),
        "namespace": event.namespace,
        "topic": event.topic,
        "event": body,
    });
    if let (Value::Object(shown), false) = (&mut shown, event.traceparent.is_empty()) {
        shown.insert("traceparent".to_owned(), event.traceparent.as_str().into());
    }
    shown
}

/// A record, in the words of the events about it.
fn state(item: &StateItem) -> Value {
    let (kind, facts) = match &item.record {
        Some(Record::NamespaceRecord(record)) => ("namespace", json!({ "name": record.name, "labels": record.labels })),
        Some(Record::Image(record)) => (
            "image",
            json!({ "name": record.name, "labels": record.labels, "target": output::descriptor(record.target.as_ref()) }),
        ),
        Some(Record::Content(record)) => {
            ("content", json!({ "digest": record.digest, "size": record.size, "labels": record.labels }))
        }
        Some(Record::Snapshot(record)) => (
            "snapshot",
            json!({
                "key": record.name, "parent": record.parent, "snapshotter": item.snapshotter, "labels": record.labels,
                "kind": record.kind().as_str_name().trim_start_matches("KIND_").to_lowercase(),
            }),
        ),
        Some(Record::Container(record)) => {
            ("container", json!({ "id": record.id, "image": record.image, "labels": record.labels }))
        }
        None => ("unknown", Value::Null),
    };
    json!({ "state": kind, "namespace": item.namespace, "record": facts })
}

/// What comes next; the end also when the person has seen enough.
async fn next<T>(stream: &mut tonic::Streaming<T>) -> anyhow::Result<Option<T>> {
    tokio::select! {
        next = stream.message() => next.map_err(refused),
        _ = tokio::signal::ctrl_c() => Ok(None),
    }
}
