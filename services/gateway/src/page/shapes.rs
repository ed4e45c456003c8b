//! What the page's JSON looks like.

use berth_model::Code;
use berth_wire::{
    metadata::{Event, Image, PullProgress, PullRecord, Verdict, pull_record::State},
    transfer::{
        PullState, PullSummary,
        pull_state::{Item, Phase, item::Stage},
    },
    types::{Measure, Time},
};
use serde_json::{Value, json};

fn time(time: Option<&Time>) -> Value {
    time.map_or(Value::Null, |time| json!(time.to_string()))
}

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

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "resolving",
        Phase::Pulling => "pulling",
        Phase::Recording => "recording",
        Phase::Done => "done",
        Phase::Failed => "failed",
    }
}

fn error(code: i32, message: &str) -> Value {
    if code == 0 { Value::Null } else { json!({ "code": Code::from_number(code), "message": message }) }
}

/// All that is known of a pull.
pub(super) fn whole(state: &PullState) -> Value {
    json!({
        "id": state.pull_id,
        "reference": state.reference,
        "phase": phase(state.phase()),
        "digest": state.target.as_ref().map(|target| target.digest.clone()),
        "startedAt": time(state.started_at.as_ref()),
        "elapsedMs": state.elapsed_ms,
        "items": state.items.iter().map(item).collect::<Vec<_>>(),
        "error": error(state.code, &state.message),
        "verdict": state.verdict.as_ref().map(verdict),
    })
}

fn item(item: &Item) -> Value {
    let descriptor = item.descriptor.clone().unwrap_or_default();
    let stage = match item.stage() {
        Stage::Waiting => "waiting",
        Stage::Downloading => "downloading",
        Stage::Unpacking => "unpacking",
        Stage::Done => "done",
        Stage::Exists => "exists",
    };
    json!({
        "kind": item.kind,
        "digest": descriptor.digest,
        "size": descriptor.size,
        "stage": stage,
        "offset": item.offset,
        "unpacked": item.unpacked,
        "fetched": item.fetched,
    })
}

/// Where the time of a pull went, as JSON.
#[must_use]
pub fn verdict(verdict: &Verdict) -> Value {
    let shares = |shares: &[berth_wire::metadata::verdict::Share]| {
        shares.iter().map(|share| json!({ "what": share.what, "us": share.us })).collect::<Vec<_>>()
    };
    let steps: Vec<Value> = verdict
        .steps
        .iter()
        .map(|step| json!({ "subject": step.subject, "what": step.what, "beginUs": step.begin_us, "endUs": step.end_us }))
        .collect();
    json!({
        "sentence": verdict.sentence,
        "totalUs": verdict.total_us,
        "path": shares(&verdict.path),
        "waits": shares(&verdict.waits),
        "bytes": {
            "registry": verdict.from_registry,
            "present": verdict.present,
            "otherPulls": verdict.from_other_pulls,
        },
        "retries": verdict.retries,
        "host": verdict.host,
        "steps": steps,
    })
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
