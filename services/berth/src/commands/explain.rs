//! `berth pulls explain`: where the time of a pull went, in words, as numbers, and as a picture.

use std::path::Path;

use anyhow::Context as _;
use berth_model::Status;
use berth_wire::{
    metadata::{PullRecord, Verdict, pull_record::State, verdict::Step},
    transfer::{AttachPullRequest, PullSummary},
};

use crate::{client::Client, commands::refused, output};

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
        std::fs::write(path, picture(&record, &verdict)).with_context(|| format!("write {}", path.display()))?;
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

const WIDTH: u64 = 1000;
const NAMES: u64 = 170;
const ROW: usize = 18;

/// A waterfall: a row for each blob, time from left to right.
fn picture(record: &PullRecord, verdict: &Verdict) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for step in &verdict.steps {
        if !rows.contains(&step.subject.as_str()) {
            rows.push(&step.subject);
        }
    }
    let height = 60 + rows.len() * ROW;
    let total = verdict.total_us.max(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{height}\" viewBox=\"0 0 {w} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"13\">{title}</text>\n<text x=\"8\" y=\"36\" fill=\"#555\">{sentence}</text>\n",
        w = WIDTH + NAMES + 16,
        title = escaped(&record.reference),
        sentence = escaped(&verdict.sentence),
    );
    for (row, subject) in rows.iter().enumerate() {
        let y = 50 + row * ROW;
        let name = if subject.is_empty() { "pull" } else { subject.get(..19).unwrap_or(subject) };
        svg.push_str(&format!("<text x=\"8\" y=\"{}\" fill=\"#333\">{}</text>\n", y + 12, escaped(name)));
        for step in verdict.steps.iter().filter(|step| step.subject == **subject) {
            let (x, width) = place(step, total);
            svg.push_str(&format!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" fill=\"{}\" opacity=\"0.85\"><title>{} {}</title></rect>\n",
                if step.what == "unpack" { ROW / 2 } else { ROW - 3 },
                colour(&step.what),
                escaped(&step.what),
                milliseconds(step.end_us.saturating_sub(step.begin_us)),
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a step begins, and how wide it is; never invisible.
fn place(step: &Step, total: u64) -> (u64, u64) {
    let at = |us: u64| us.min(total) * WIDTH / total;
    (NAMES + at(step.begin_us), (at(step.end_us) - at(step.begin_us.min(step.end_us))).max(1))
}

/// Colours that differ also for who sees fewer of them (Okabe and Ito).
fn colour(what: &str) -> &'static str {
    match what {
        "fetch" => "#56b4e9",
        "unpack" => "#e69f00",
        "fetch turn" | "unpack turn" => "#bbbbbb",
        "commit" => "#009e73",
        "resolve" | "check" => "#cc79a7",
        _ => "#0072b2",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_what_it_is_told() {
        let step = |subject: &str, what: &str, begin_us, end_us| Step {
            subject: subject.into(),
            what: what.into(),
            begin_us,
            end_us,
        };
        let verdict = Verdict {
            total_us: 1000,
            steps: vec![
                step("", "resolve", 0, 100),
                step("sha256:ab", "fetch", 100, 900),
                step("", "record", 990, 5000),
            ],
            ..Verdict::default()
        };
        let record = PullRecord { reference: "a/b<c>&\"d\"".into(), ..PullRecord::default() };
        let svg = picture(&record, &verdict);
        assert!(svg.contains("a/b&lt;c&gt;&amp;&quot;d&quot;") && !svg.contains("<c>"), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 3);
        assert_eq!(place(&verdict.steps[1], 1000), (NAMES + 100, 800));
        assert_eq!(place(&verdict.steps[2], 1000), (NAMES + 990, 10), "cut at the end");
    }
}
