//! What the page's JSON looks like.

use berth_model::Code;
use berth_wire::{
    metadata::{Event, Image, PullProgress, PullRecord, pull_record::State},
    transfer::PullSummary,
    types::Measure,
};
use serde_json::{Value, json};

use crate::pull_shape::{error, phase, time};

fn progress(progress: Option<PullProgress>) -> Value {
    let progress = progress.unwrap_or_default();
    json!({
        "blobs": progress.blobs,
        "blobsDone": progress.blobs_done,
        "total": progress.total,
        "offset": progress.offset,
        "unpacked": progress.unpacked,
        "fetched": progress.fetched,
    })
}

/// A pull in few words.
pub(super) fn pull(summary: &PullSummary) -> Value {
    let record = summary.record.clone().unwrap_or_default();
    json!({
        "id": record.id,
        "namespace": record.namespace,
        "reference": record.reference,
        "state": state(&record, summary),
        "watchers": summary.watchers,
        "ageMs": summary.age_ms,
        "unpacks": !record.no_unpack,
        "createdAt": time(record.created_at.as_ref()),
        "endedAt": time(record.ended_at.as_ref()),
        "progress": progress(record.progress),
        "error": error(record.code, &record.message),
        "verdict": record.verdict.as_ref().map(|verdict| verdict.sentence.clone()),
    })
}

fn state(record: &PullRecord, summary: &PullSummary) -> &'static str {
    match record.state() {
        State::Done => "done",
        State::Failed if Code::from_number(record.code) == Code::Cancelled => "cancelled",
        State::Failed => "failed",
        State::Running if summary.interrupted => "interrupted",
        State::Running => phase(summary.phase()),
    }
}

pub(super) fn image(namespace: &str, image: &Image) -> Value {
    let target = image.target.clone().unwrap_or_default();
    json!({
        "namespace": namespace,
        "name": image.name,
        "digest": target.digest,
        "mediaType": target.media_type,
        "labels": image.labels,
        "updatedAt": time(image.updated_at.as_ref()),
    })
}

/// An event; of somebody else's no more is told than that it was.
pub(super) fn event(event: &Event) -> Value {
    let facts = serde_json::from_str(&event.json).unwrap_or(Value::Null);
    json!({
        "sequence": event.sequence,
        "namespace": event.namespace,
        "topic": event.topic,
        "at": time(event.at.as_ref()),
        "event": facts,
    })
}

pub(super) fn measure(measure: Option<Measure>) -> Value {
    let measure = measure.unwrap_or_default();
    json!({ "count": measure.count, "size": measure.size, "disk": measure.disk })
}
