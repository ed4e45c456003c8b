//! `berth pulls explain`: where the time of a pull went, in words, as numbers, and as a picture.

use std::path::Path;

use anyhow::Context as _;
use berth_model::Status;
use berth_wire::{
    metadata::{PullRecord, Verdict, pull_record::State},
    transfer::{AttachPullRequest, PullSummary},
};

use crate::{
    client::Client,
    commands::{refused, waterfall},
    output,
};

/// Explains the newest of `pulls` that is meant.
pub(crate) async fn run(
    client: &Client,
    pulls: Vec<PullSummary>,
    meant: &str,
    json: bool,
    svg: Option<&Path>,
) -> anyhow::Result<()> {
    let record = find(pulls, meant)?;
    if record.state() == State::Running {
        return Err(Status::failed_precondition(format!(
            "pull {} of {} is not over; `berth pulls attach {}` shows it",
            record.id, record.reference, record.id
        ))
        .into());
    }
    let request = AttachPullRequest {
        namespace: record.namespace.clone(),
        pull: record.id.clone(),
        ..AttachPullRequest::default()
    };
    let mut states = client.pulls().attach(request).await.map_err(refused)?.into_inner();
    let state = states.message().await.map_err(refused)?.unwrap_or_default();
    let Some(verdict) = state.verdict else {
        return Err(Status::not_found(format!("nothing is known of where the time of pull {} went", record.id)).into());
    };
    if let Some(path) = svg {
        let drawn = waterfall::draw(&record.reference, &verdict, &state.items);
        std::fs::write(path, drawn).with_context(|| format!("write {}", path.display()))?;
    }
    if json { output::print_json(&as_json(&record, &verdict)) } else { Ok(output::print(&text(&record, &verdict))?) }
}

/// By id, by how an id begins, or by reference as it was recorded or written.
fn find(pulls: Vec<PullSummary>, meant: &str) -> anyhow::Result<PullRecord> {
    let whole = meant.parse::<berth_model::Reference>().map(|reference| reference.to_string()).unwrap_or_default();
    let is_meant = |record: &PullRecord| record.id.starts_with(meant) || record.reference == whole;
    let found = pulls.into_iter().filter_map(|pull| pull.record).filter(is_meant).max_by_key(|record| {
        let created = record.created_at.unwrap_or_default();
        (created.seconds, created.nanos)
    });
    found.ok_or_else(|| Status::not_found(format!("no pull {meant:?}; `berth pulls ls --all` shows them")).into())
}

fn milliseconds(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

fn text(record: &PullRecord, verdict: &Verdict) -> String {
    let mut text = format!("{} {}\n{}\n\n", record.id, record.reference, verdict.sentence);
    let mut line = |what: &str, value: &str| {
        text.push_str(&format!("{what:<32} {value}\n"));
    };
    line("critical path", &milliseconds(verdict.total_us));
    for share in &verdict.path {
        let percent = (share.us * 100).checked_div(verdict.total_us).unwrap_or_default();
        line(&format!("  {}", share.what), &format!("{:>10} {percent:>3} %", milliseconds(share.us)));
    }
    if !verdict.waits.is_empty() {
        line("waits of all blobs (may overlap)", "");
        for share in &verdict.waits {
            line(&format!("  {}", share.what), &format!("{:>10}", milliseconds(share.us)));
        }
    }
    line("bytes", "");
    line(&format!("  from {}", verdict.host), &output::size(verdict.from_registry));
    line("  there already", &output::size(verdict.present));
    line("  from other pulls", &output::size(verdict.from_other_pulls));
    for (cause, times) in &verdict.retries {
        line(&format!("retries because of {cause}"), &times.to_string());
    }
    for (host, times) in &verdict.retried_hosts {
        line(&format!("  of requests to {host}"), &times.to_string());
    }
    text
}

fn as_json(record: &PullRecord, verdict: &Verdict) -> serde_json::Value {
    let mut value = berth_gateway::pull_shape::verdict(verdict);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("id".to_owned(), record.id.clone().into());
        fields.insert("reference".to_owned(), record.reference.clone().into());
    }
    value
}
