//! The contract of events, `docs/events.asyncapi.yaml`, as something that events can be held against.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The document, and what it says of each channel.
#[derive(Debug)]
pub struct EventContract {
    document: Value,
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug)]
struct Channel {
    /// After the namespace: `images.create`.
    topic: String,
    headers: Validator,
    payload: Validator,
}

/// The one channel whose topic is whatever somebody chose.
const FOREIGN: &str = "foreign";

impl EventContract {
    /// Reads the document of this source tree.
    pub fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.asyncapi.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let document: Value = serde_yaml_ng::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        ensure!(document["asyncapi"] == "3.0.0", "it is AsyncAPI {}", document["asyncapi"]);
        let mut channels = BTreeMap::new();
        for (name, channel) in document["channels"].as_object().context("no channels")? {
            let address = channel["address"].as_str().with_context(|| format!("{name} has no address"))?;
            let topic = address
                .strip_prefix("{prefix}.events.{namespace}.")
                .with_context(|| format!("{name}: {address} is no subject of ours"))?;
            let message = resolved(&document, &channel["messages"][name])?;
            let said = format!("the message of {name}");
            let headers = validator(&document, &message["headers"]).context(said.clone())?;
            let payload = validator(&document, &message["payload"]).context(said)?;
            channels.insert(name.clone(), Channel { topic: topic.to_owned(), headers, payload });
        }
        let operations = document["operations"].as_object().context("no operations")?;
        for (name, operation) in operations {
            resolved(&document, &operation["channel"]).with_context(|| format!("the operation {name}"))?;
        }
        ensure!(operations.len() == channels.len(), "each channel has one operation");
        Ok(Self { document, channels })
    }

    /// The topics that are promised, with dots: `images.create`.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        self.channels.iter().filter(|(name, _)| *name != FOREIGN).map(|(_, channel)| channel.topic.as_str()).collect()
    }

    /// The fields of `event` that are promised for a topic.
    #[must_use]
    pub fn fields(&self, topic: &str) -> Vec<&str> {
        let name = self.channels.iter().find(|(_, channel)| channel.topic == topic).map(|(name, _)| name.as_str());
        let schema = &self.document["components"]["schemas"][name.unwrap_or_default()];
        schema["properties"].as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect()
    }

    /// Holds an event against the contract; `subject` is what follows `PREFIX.events.`. Answers the channel's name.
    pub fn check(&self, subject: &str, headers: &[(String, String)], body: &[u8]) -> Result<String> {
        let (namespace, topic) = subject.split_once('.').with_context(|| format!("{subject} has no topic"))?;
        let known = self.channels.iter().find(|(_, channel)| channel.topic == topic);
        let (name, channel) = match known.or_else(|| self.channels.get_key_value(FOREIGN)) {
            Some(found) => found,
            None => bail!("no channel for {subject}"),
        };
        let shown: Map<String, Value> = headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        ensure!(shown.len() == headers.len(), "{subject}: a header is there twice: {headers:?}");
        let shown = Value::Object(shown);
        conform(&channel.headers, &shown).with_context(|| format!("the headers of {subject}: {shown}"))?;
        let documented = &self.document["components"]["schemas"]["headers"]["properties"];
        for (name, _) in headers {
            ensure!(documented.get(name).is_some(), "{subject}: the header {name} is not in the contract");
        }
        let body: Value = serde_json::from_slice(body).with_context(|| format!("the body of {subject}"))?;
        conform(&channel.payload, &body).with_context(|| format!("the body of {subject}: {body}"))?;
        // What is said twice must be the same.
        ensure!(body["namespace"] == namespace.replace("%2E", "."), "{subject}: {body}");
        ensure!(body["topic"] == format!("/{}", topic.replace('.', "/")), "{subject}: {body}");
        ensure!(shown["ce-type"] == format!("io.berth.{topic}"), "{subject}: {shown}");
        ensure!(shown["ce-time"] == body["at"] && shown["content-type"] == shown["ce-datacontenttype"], "{shown}");
        ensure!(shown["ce-sequence"].as_str() == Some(&body["sequence"].to_string()), "{shown} {body}");
        Ok(name.clone())
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> Result<&'a Value> {
    match value["$ref"].as_str() {
        None if value.is_null() => bail!("something that is referred to is not there"),
        None => Ok(value),
        Some(reference) => {
            let place = reference.strip_prefix('#').with_context(|| format!("{reference} leads elsewhere"))?;
            let found = document.pointer(place).with_context(|| format!("{reference} leads nowhere"))?;
            resolved(document, found)
        }
    }
}

/// A schema of the document, whose references lead to others in it.
fn validator(document: &Value, schema: &Value) -> Result<Validator> {
    let mut whole = json!({ "components": document["components"] });
    if let (Value::Object(whole), Value::Object(schema)) = (&mut whole, schema) {
        whole.extend(schema.clone());
    }
    jsonschema::options()
        .should_validate_formats(true)
        .build(&whole)
        .map_err(|error| anyhow::anyhow!("no JSON Schema: {error}"))
}

fn conform(validator: &Validator, value: &Value) -> Result<()> {
    let faults: Vec<String> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}
