//! The homes, and what the tests of all nouns ask.

use std::sync::Arc;

use berth_api::{
    metadata::{Metadata, MetadataClient},
    pull_records::{PullRecords, PullRecordsClient},
};
use berth_bus::{Bus, Serving};
use berth_metadata::{Config, Service};
use berth_model::{Code, Digest, Status};
use berth_wire::metadata as msg;
use serde_json::Value;

pub(crate) const NS: &str = "default";

/// A fresh store and a way to talk to it.
pub(crate) struct Home {
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) pulls: Arc<dyn PullRecords>,
    _serving: Vec<Serving>,
    _root: tempfile::TempDir,
}

impl Home {
    /// Keeps two records of ended pulls.
    fn config(root: &tempfile::TempDir) -> Config {
        Config { ended_pulls: 2, ..Config::new(root.path()) }
    }

    pub(crate) async fn direct() -> Self {
        let root = tempfile::tempdir().unwrap();
        let service = berth_metadata::open(Self::config(&root)).await.unwrap();
        Self { metadata: Arc::<Service>::clone(&service), pulls: service, _serving: Vec::new(), _root: root }
    }

    pub(crate) async fn on_the_bus() -> Self {
        let root = tempfile::tempdir().unwrap();
        let bus = Bus::in_process();
        let serving = berth_metadata::start(&bus, Self::config(&root)).await.unwrap();
        let pulls = Arc::new(PullRecordsClient::new(bus.clone()));
        Self { metadata: Arc::new(MetadataClient::new(bus)), pulls, _serving: serving, _root: root }
    }

    /// All events so far: namespace, topic, facts.
    pub(crate) async fn events(&self) -> Vec<(String, String, Value)> {
        let reply = self.metadata.read_events(msg::ReadEventsRequest::default()).await.unwrap();
        let facts = |event: &msg::Event| serde_json::from_str(&event.json).unwrap();
        reply.events.iter().map(|event| (event.namespace.clone(), event.topic.clone(), facts(event))).collect()
    }

    /// The topics so far.
    pub(crate) async fn topics(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.1).collect()
    }
}

/// The code and the words of a refusal.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, words: &[&str]) {
    let status = result.unwrap_err();
    assert_eq!(status.code, code, "{status}");
    for word in words {
        assert!(status.message.contains(word), "{word:?} is not in {:?}", status.message);
    }
}

pub(crate) fn digest(seed: &str) -> String {
    Digest::of(seed.as_bytes()).to_string()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> berth_model::labels::Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
