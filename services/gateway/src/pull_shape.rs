//! What a pull looks like as JSON, to the page as to the command line.

use berth_model::Code;
use berth_wire::{
    metadata::Verdict,
    transfer::{
        PullState,
        pull_state::{Item, Phase, item::Stage},
    },
    types::{Descriptor, Time},
};
use serde_json::{Value, json};

/// The word for a phase.
#[must_use]
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "resolving",
        Phase::Pulling => "pulling",
        Phase::Recording => "recording",
        Phase::Done => "done",
        Phase::Failed => "failed",
    }
}

/// The word for what a blob is at.
#[must_use]
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waiting",
        Stage::Downloading => "downloading",
        Stage::Unpacking => "unpacking",
        Stage::Done => "done",
        Stage::Exists => "exists",
    }
}

pub(crate) fn time(time: Option<&Time>) -> Value {
    time.map_or(Value::Null, |time| json!(time.to_string()))
}

pub(crate) fn error(code: i32, message: &str) -> Value {
    if code == 0 { Value::Null } else { json!({ "code": Code::from_number(code), "message": message }) }
}

fn descriptor(descriptor: &Descriptor) -> Value {
    json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size })
}

/// All that is known of a pull.
#[must_use]
pub fn pull(state: &PullState) -> Value {
    json!({
        "id": state.pull_id,
        "reference": state.reference,
        "phase": phase(state.phase()),
        "target": state.target.as_ref().map(descriptor),
        "startedAt": time(state.started_at.as_ref()),
        "elapsedMs": state.elapsed_ms,
        "items": state.items.iter().map(item).collect::<Vec<_>>(),
        "chainIds": state.chain_ids,
        "error": error(state.code, &state.message),
        "verdict": state.verdict.as_ref().map(verdict),
    })
}

fn item(item: &Item) -> Value {
    let descriptor = item.descriptor.clone().unwrap_or_default();
    json!({
        "kind": item.kind,
        "digest": descriptor.digest,
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "stage": stage(item.stage()),
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
        "retriedHosts": verdict.retried_hosts,
        "host": verdict.host,
        "steps": steps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_that_failed() {
        let mut state =
            PullState { pull_id: "p".into(), code: 5, message: "no such image".into(), ..Default::default() };
        state.set_phase(Phase::Failed);
        state.items.push(Item { kind: "layer".into(), ..Item::default() });
        let shown = pull(&state);
        assert_eq!(shown["error"], json!({ "code": "not_found", "message": "no such image" }));
        assert_eq!((&shown["phase"], &shown["items"][0]["stage"]), (&json!("failed"), &json!("waiting")));
        assert!(shown["target"].is_null() && shown["verdict"].is_null());
    }
}
