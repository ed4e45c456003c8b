//! `berth pulls`.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use berth_model::{Code, Status};
use berth_wire::{
    metadata::{self, PullRecord, pull_record::State},
    transfer::{
        AttachPullRequest, CancelPullRequest, ListPullsRequest, PullSummary, WatchPullsRequest, pull_state::Phase,
    },
};
use serde_json::json;

use crate::{
    cli::{Priority, Pulls},
    client::Client,
    commands::{
        explain,
        following::{self, Shown, Way},
        refused,
    },
    failure, output,
};

const HEADER: [&str; 7] = ["ID", "REFERENCE", "STATE", "DONE", "BYTES", "AGE", "PRIORITY"];

pub(crate) async fn run(client: &Client, command: Pulls) -> anyhow::Result<ExitCode> {
    let namespace = |all: bool| if all { String::new() } else { client.namespace.clone() };
    match command {
        Pulls::Ls { all, all_namespaces, quiet, json } => {
            let mut pulls = list(client, namespace(all_namespaces), all).await?;
            pulls.sort_by_key(|pull| std::cmp::Reverse(pull.age_ms));
            if quiet {
                pulls.iter().try_for_each(|pull| output::print(&record(pull).id))?;
            } else if json {
                pulls.iter().try_for_each(|pull| output::print_json(&shown(pull)))?;
            } else {
                output::print_table(&table(&pulls))?;
            }
        }
        Pulls::Watch { all_namespaces, json } => return watch(client, namespace(all_namespaces), json).await,
        Pulls::Attach { pull, json, quiet } => {
            let request =
                AttachPullRequest { namespace: client.namespace.clone(), pull, ..AttachPullRequest::default() };
            let shown = Shown { json, quiet, chain_ids: false };
            return following::follow(client, Way::Attach(request), shown).await;
        }
        Pulls::Explain { pull, json, svg } => {
            let pulls = list(client, namespace(false), true).await?;
            explain::run(client, pulls, &pull, json, svg.as_deref()).await?;
        }
        Pulls::Cancel { pulls } => {
            for pull in pulls {
                let request = CancelPullRequest { namespace: client.namespace.clone(), pull };
                let cancelled = client.pulls().cancel(request).await.map_err(refused)?.into_inner();
                output::print(&cancelled.pull_id)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The wire's word for a priority.
pub(crate) fn priority(priority: Priority) -> metadata::Priority {
    match priority {
        Priority::Low => metadata::Priority::Low,
        Priority::Normal => metadata::Priority::Normal,
        Priority::High => metadata::Priority::High,
    }
}

pub(super) async fn list(client: &Client, namespace: String, all: bool) -> anyhow::Result<Vec<PullSummary>> {
    let mut request = ListPullsRequest { namespace, all, ..ListPullsRequest::default() };
    let mut pulls = Vec::new();
    loop {
        let page = client.pulls().list(request.clone()).await.map_err(refused)?.into_inner();
        let last = page.pulls.last().map(|pull| record(pull).id);
        pulls.extend(page.pulls);
        match last {
            Some(last) if page.more => request.after = last,
            _ => return Ok(pulls),
        }
    }
}

async fn watch(client: &Client, namespace: String, json: bool) -> anyhow::Result<ExitCode> {
    if client.is_local {
        return Err(Status::failed_precondition(
            "no daemon runs here, so nothing goes on; `berth pulls ls` shows what was interrupted",
        )
        .into());
    }
    let request = WatchPullsRequest { namespace, ..WatchPullsRequest::default() };
    let mut replies = client.pulls().watch(request).await.map_err(refused)?.into_inner();
    let mut screen = Screen::default();
    loop {
        let reply = tokio::select! {
            reply = replies.message() => reply.map_err(refused)?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(failure::INTERRUPTED)),
        };
        let Some(reply) = reply else { return Ok(ExitCode::SUCCESS) };
        if json {
            let pulls: Vec<serde_json::Value> = reply.pulls.iter().map(shown).collect();
            output::print_json(&json!({ "version": reply.version, "pulls": pulls }))?;
        } else if std::io::stdout().is_terminal() {
            screen.draw(&table(&reply.pulls).to_string())?;
        } else {
            screen.changes(&reply.pulls)?;
        }
    }
}

/// What is on the terminal, or was told.
#[derive(Default)]
struct Screen {
    lines: usize,
    told: BTreeMap<String, &'static str>,
}

impl Screen {
    /// Draws over what was drawn before.
    fn draw(&mut self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.lines > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        let text: Vec<&str> = text.lines().map(str::trim_end).collect();
        self.lines = text.len();
        writeln!(out, "{}", text.join("\n"))?;
        out.flush()
    }

    /// A line for each pull that came to another state.
    fn changes(&mut self, pulls: &[PullSummary]) -> std::io::Result<()> {
        for pull in pulls {
            let (record, state) = (record(pull), state(pull));
            if self.told.insert(record.id.clone(), state) != Some(state) {
                output::print(&format!("{} {} {state} {}", record.id, record.reference, percent(pull)))?;
            }
        }
        // Of what is gone nothing more is told.
        self.told.retain(|id, _| pulls.iter().any(|pull| record(pull).id == *id));
        Ok(())
    }
}

pub(super) fn record(pull: &PullSummary) -> PullRecord {
    pull.record.clone().unwrap_or_default()
}

pub(super) fn table(pulls: &[PullSummary]) -> comfy_table::Table {
    let mut table = output::table(&HEADER);
    for pull in pulls {
        let record = record(pull);
        let age = Duration::from_secs(pull.age_ms / 1000);
        table.add_row([
            record.id.clone(),
            record.reference.clone(),
            state(pull).to_owned(),
            percent(pull),
            bytes(&record),
            humantime::format_duration(age).to_string(),
            priority_word(&record).to_owned(),
        ]);
    }
    table
}

pub(super) fn state(pull: &PullSummary) -> &'static str {
    let record = record(pull);
    match (record.state(), pull.phase()) {
        (State::Done, _) => "done",
        (State::Failed, _) if Code::from_number(record.code) == Code::Cancelled => "cancelled",
        (State::Failed, _) => "failed",
        (State::Running, _) if pull.interrupted => "interrupted",
        (State::Running, Phase::Resolving) => "resolving",
        (State::Running, Phase::Recording | Phase::Done | Phase::Failed) => "recording",
        (State::Running, Phase::Pulling) => "pulling",
    }
}

/// How much of the work is done: bytes that are there and, if they are to be unpacked, unpacked too.
pub(super) fn share(record: &PullRecord) -> Option<u64> {
    if record.state() == State::Done {
        return Some(100);
    }
    let progress = record.progress.unwrap_or_default();
    let (done, all) = match record.no_unpack {
        true => (progress.offset, progress.total),
        false => (progress.offset + progress.unpacked, progress.total.saturating_mul(2)),
    };
    // The end is only the end.
    (done.min(all).saturating_mul(100)).checked_div(all).map(|share| share.min(99))
}

fn percent(pull: &PullSummary) -> String {
    share(&record(pull)).map_or_else(|| "-".to_owned(), |share| format!("{share}%"))
}

pub(super) fn bytes(record: &PullRecord) -> String {
    match record.progress.filter(|progress| progress.total > 0) {
        Some(progress) => format!("{} / {}", output::size(progress.offset), output::size(progress.total)),
        None => "-".to_owned(),
    }
}

pub(super) fn priority_word(record: &PullRecord) -> &'static str {
    match record.priority() {
        metadata::Priority::Low => "low",
        metadata::Priority::Normal => "normal",
        metadata::Priority::High => "high",
    }
}

pub(super) fn shown(pull: &PullSummary) -> serde_json::Value {
    let record = record(pull);
    let progress = record.progress.unwrap_or_default();
    let time = |time: Option<berth_wire::types::Time>| time.map(|time| time.to_string());
    let mut value = json!({
        "id": record.id,
        "namespace": record.namespace,
        "reference": record.reference,
        "state": state(pull),
        "percent": share(&record),
        "bytes": {
            "total": progress.total,
            "offset": progress.offset,
            "unpacked": progress.unpacked,
            "fetched": progress.fetched,
        },
        "blobs": progress.blobs,
        "blobsDone": progress.blobs_done,
        "priority": priority_word(&record),
        "detached": record.detached,
        "watchers": pull.watchers,
        "starts": record.starts,
        "target": output::descriptor(record.target.as_ref()),
        "createdAt": time(record.created_at),
        "deadline": time(record.deadline),
        "endedAt": time(record.ended_at),
        "ageMs": pull.age_ms,
    });
    if let (State::Failed, Some(fields)) = (record.state(), value.as_object_mut()) {
        let code = Code::from_number(record.code);
        fields.insert("error".to_owned(), json!({ "code": code, "message": record.message }));
    }
    value
}

#[cfg(test)]
mod tests {
    use berth_wire::metadata::PullProgress;

    use super::*;

    #[test]
    fn states_and_shares_as_a_table() {
        let with = |state: State, code: Code, phase: Phase, interrupted: bool, no_unpack: bool| {
            let progress = PullProgress { total: 200, offset: 200, unpacked: 50, ..PullProgress::default() };
            let code = if state == State::Failed { code.number() } else { 0 };
            let mut record = PullRecord { code, no_unpack, progress: Some(progress), ..PullRecord::default() };
            record.set_state(state);
            let mut pull = PullSummary { record: Some(record), interrupted, ..PullSummary::default() };
            pull.set_phase(phase);
            pull
        };
        for (pull, word, percents) in [
            (with(State::Running, Code::Unknown, Phase::Pulling, false, false), "pulling", "62%"),
            (with(State::Running, Code::Unknown, Phase::Pulling, false, true), "pulling", "99%"),
            (with(State::Running, Code::Unknown, Phase::Resolving, true, false), "interrupted", "62%"),
            (with(State::Done, Code::Unknown, Phase::Done, false, false), "done", "100%"),
            (with(State::Failed, Code::Cancelled, Phase::Failed, false, false), "cancelled", "62%"),
            (with(State::Failed, Code::NotFound, Phase::Failed, false, false), "failed", "62%"),
        ] {
            assert_eq!((state(&pull), percent(&pull).as_str()), (word, percents));
        }
        assert_eq!(percent(&PullSummary::default()), "-");
    }
}
