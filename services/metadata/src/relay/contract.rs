//! The published contract of events, held against what the relay makes of every fact.

use std::collections::BTreeSet;

use berth_bus::BusEvent;
use berth_testing::event_contract::EventContract;
use berth_wire::{metadata as msg, types};
use serde_json::Value;

use super::envelope;
use crate::{
    config::EventEncoding,
    event::{Fact, samples},
};

const OUTBOX: &str = "01a1fded-28e1-7098-8bb9-a9e2f9617590";

fn event(topic: &str, json: String) -> msg::Event {
    msg::Event {
        sequence: 7,
        namespace: "k8s.io".into(),
        topic: topic.into(),
        at: Some(types::Time { seconds: 1_700_000_000, nanos: 1 }),
        json,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        ..msg::Event::default()
    }
}

fn published(fact: &Fact) -> BusEvent {
    envelope::of(OUTBOX, &event(fact.topic(), fact.json()), EventEncoding::Json)
}

#[test]
fn every_fact_is_as_the_contract_says_and_the_contract_says_no_more() {
    let contract = EventContract::read().unwrap();
    let (mut told, mut names) = (BTreeSet::new(), BTreeSet::new());
    for fact in samples() {
        let published = published(&fact);
        names.insert(contract.check(&published.subject, &published.headers, &published.body).unwrap());
        let topic = fact.topic().trim_matches('/').replace('/', ".");
        let body: Value = serde_json::from_slice(&published.body).unwrap();
        let sent: BTreeSet<_> = body["event"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(sent, contract.fields(&topic).into_iter().collect(), "{topic}");
        told.insert(topic);
    }
    assert_eq!(told.iter().map(String::as_str).collect::<BTreeSet<_>>(), contract.topics().into_iter().collect());
    assert_eq!(names.len(), told.len(), "each has a channel of its own");
}

#[test]
fn what_is_not_whole_or_not_ours_is_in_the_contract_too() {
    let contract = EventContract::read().unwrap();
    let large = envelope::without_facts(OUTBOX, &event("/images/create", String::new()), EventEncoding::Json);
    contract.check(&large.subject, &large.headers, &large.body).unwrap();
    let payload = Some(msg::Payload { type_url: "x.Y".into(), value: vec![1] });
    let foreign = msg::Event { payload, ..event("/tasks/exit", String::new()) };
    let foreign = envelope::of(OUTBOX, &foreign, EventEncoding::Json);
    assert_eq!(contract.check(&foreign.subject, &foreign.headers, &foreign.body).unwrap(), "foreign");
}

#[test]
fn the_contract_notices() {
    let contract = EventContract::read().unwrap();
    let good = published(&Fact::ImageDeleted { name: "a".into() });
    let body: Value = serde_json::from_slice(&good.body).unwrap();
    for (place, value) in [
        ("/event/name", Value::from(7)),
        ("/event", Value::from("x")),
        ("/sequence", Value::from(0)),
        ("/topic", Value::from("/images/create")),
        ("/at", Value::from("yesterday")),
        ("/namespace", Value::from("other")),
    ] {
        let mut wrong = body.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        let found = contract.check(&good.subject, &good.headers, wrong.to_string().as_bytes());
        assert!(found.is_err(), "{place}");
    }
    let mut more = body;
    more["event"]["more"] = Value::from(1);
    assert!(contract.check(&good.subject, &good.headers, more.to_string().as_bytes()).is_err());
    for missing in 0..good.headers.len() {
        let mut headers = good.headers.clone();
        let (name, _) = headers.remove(missing);
        let optional = ["ce-subject", "ce-traceparent", "traceparent"].contains(&name.as_str());
        assert_eq!(contract.check(&good.subject, &headers, &good.body).is_ok(), optional, "{name}");
    }
}
