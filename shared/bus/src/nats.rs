//! The NATS home: calls over core NATS, jobs and events over JetStream.

mod calls;
mod dead;
mod delivery;
mod denials;
mod events;
mod identity;
mod inbox;
mod link;
mod liveness;
mod making;
mod publish;
mod queues;
mod refusal;
mod replies;
mod signal;
mod streams;
mod submit;
mod tls;
mod url_credentials;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use berth_model::Status;

use crate::options::NatsOptions;
use crate::subject::Names;
use crate::trace::Headers;
use link::Link;
use liveness::Liveness;

/// Everything of one connection to one deployment.
#[derive(Debug)]
pub(crate) struct Nats {
    link: Link,
    jetstream: jetstream::Context,
    names: Names,
    liveness: Liveness,
    replies: replies::Replies,
    census: queues::Census,
    streams: streams::Seen,
    /// On how many servers a new stream is.
    replicas: usize,
    /// How long to wait for services and workers to appear, and how long a job may be silent.
    wait: Duration,
}

impl Nats {
    pub(crate) async fn connect(options: NatsOptions) -> Result<Arc<Self>, Status> {
        let names = Names::new(&options.prefix)?;
        if ![1, 3, 5].contains(&options.replicas) {
            return Err(Status::invalid_argument(format!(
                "{} replicas of a stream: it can be 1, 3 or 5",
                options.replicas
            )));
        }
        let link = Link::connect(&options).await?;
        let mut jetstream = jetstream::new(link.client.clone());
        jetstream.set_timeout(Duration::from_secs(5));
        Ok(Arc::new(Self {
            link,
            jetstream,
            names,
            liveness: Liveness::default(),
            replies: replies::Replies::default(),
            census: queues::Census::default(),
            streams: streams::Seen::default(),
            replicas: options.replicas,
            wait: options.wait,
        }))
    }

    /// Whether the server can be reached right now.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// What the server carries in one message, headers included.
    pub(crate) fn max_payload(&self) -> usize {
        self.link.client.max_payload()
    }

    /// Waits, within a bound, until everything written so far reached the server.
    pub(crate) async fn flush(&self) {
        match tokio::time::timeout(Duration::from_secs(2), self.link.client.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "flush failed"),
            Err(_elapsed) => tracing::debug!("flush took too long"),
        }
    }
}

/// Our headers as NATS's.
fn to_nats(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // A line break would end the header, and what follows it would be read as another one.
        let value = value.replace(['\r', '\n'], " ");
        match name.parse::<async_nats::HeaderName>() {
            Ok(name) => map.append(name, value.as_str()),
            Err(error) => tracing::debug!(name, %error, "header left out"),
        }
    }
    map
}

/// NATS's headers as ours.
fn from_nats(map: Option<&HeaderMap>) -> Headers {
    let all = map.into_iter().flat_map(HeaderMap::iter);
    all.flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string()))).collect()
}

/// The value of one header.
fn header(map: Option<&HeaderMap>, name: &str) -> Option<String> {
    map?.get(name).map(ToString::to_string)
}
