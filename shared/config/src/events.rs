//! Settings of the events that are published on NATS.

/// What subscribers get.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// How their bodies are written.
    pub encoding: EventEncoding,
}

/// How the body of an event is written; the headers are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventEncoding {
    /// For people and for every language.
    #[default]
    Json,
    /// `berth.metadata.v1.Event`, for programs that have its description.
    Protobuf,
}
