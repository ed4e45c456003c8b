//! `berth events`.

use berth_wire::gateway::FollowRequest;

use crate::{cli::Events, client::Client, commands::refused, output};

pub(crate) async fn run(client: &Client, events: Events) -> anyhow::Result<()> {
    let request = FollowRequest {
        after: events.since.unwrap_or(0),
        only_new: events.since.is_none() && !events.until_now,
        namespace: if events.only_namespace { client.namespace.clone() } else { String::new() },
        until_now: events.until_now,
    };
    let mut stream = client.events().follow(request).await.map_err(refused)?.into_inner();
    while let Some(event) = next(&mut stream).await? {
        let body: serde_json::Value = serde_json::from_str(&event.json).unwrap_or_default();
        output::print_json(&serde_json::json!({
            "sequence": event.sequence,
            "at": output::time(event.at.as_ref()),
            "namespace": event.namespace,
            "topic": event.topic,
            "event": body,
        }))?;
    }
    Ok(())
}

/// The next event; the end also when the person has seen enough.
async fn next(
    stream: &mut tonic::Streaming<berth_wire::metadata::Event>,
) -> anyhow::Result<Option<berth_wire::metadata::Event>> {
    tokio::select! {
        event = stream.message() => event.map_err(refused),
        _ = tokio::signal::ctrl_c() => Ok(None),
    }
}
