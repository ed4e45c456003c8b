//! A subscriber that may come and go: each event of images once, whatever happened in between.
//!
//!     cargo run -p berth-integration-tests --example subscriber -- nats://localhost:4222 my-name 10 [ca.pem subscriber.nk]
//!
//! It has a durable consumer on the stream of events: the server remembers what was acknowledged. An event that was
//! handled and not yet acknowledged when the program died comes again, with the same id; so the last number of each
//! source is remembered, and what is not newer was handled.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, consumer};
use futures::StreamExt as _;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (url, name) = (args.next().context("usage: URL NAME COUNT [CA NKEY]")?, args.next().context("a name")?);
    let mut wanted: usize = args.next().context("how many events")?.parse()?;
    let mut options = async_nats::ConnectOptions::new();
    if let (Some(ca), Some(nkey)) = (args.next(), args.next()) {
        // The user `subscriber` of `berth nats users`: it may read events and nothing else.
        let seed = std::fs::read_to_string(&nkey).with_context(|| format!("read {nkey}"))?;
        options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned()).add_root_certificates(ca.into());
    }

    let stream = jetstream::new(options.connect(url).await?).get_stream("BERTH_EVENTS").await?;
    let config = consumer::pull::Config {
        durable_name: Some(name.clone()),
        // All namespaces, only images: the server filters.
        filter_subject: "berth.events.*.images.>".to_owned(),
        ack_policy: consumer::AckPolicy::Explicit,
        ..Default::default()
    };
    let consumer = stream.get_or_create_consumer(&name, config).await?;
    // Where this is kept is up to you: beside what the events lead to, and written with it.
    let mut handled: HashMap<String, u64> = HashMap::new();
    let mut messages = consumer.messages().await?;
    while wanted > 0 {
        let message = messages.next().await.context("the connection ended")??;
        let headers = message.headers.as_ref().context("an event has headers")?;
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned()).context("not a CloudEvent");
        let (source, sequence) = (header("ce-source")?, header("ce-sequence")?.parse::<u64>()?);
        if handled.get(&source).is_none_or(|last| *last < sequence) {
            let body: serde_json::Value = serde_json::from_slice(&message.payload)?;
            let line =
                serde_json::json!({ "id": header("ce-id")?, "type": header("ce-type")?, "event": body.get("event") });
            println!("{line}");
            handled.insert(source, sequence);
            wanted -= 1;
        }
        message.ack().await.map_err(|error| anyhow::anyhow!("not acknowledged: {error}"))?;
    }
    Ok(())
}
