//! `berth gc` and `berth content fsck`: runs of the gc service, shown while they go on; and why something is kept.

use std::process::ExitCode;

use berth_wire::gc::{
    Check, Collect, Item, ReadRunReply, StartRunRequest, Summary, WhyRequest, item::Outcome, start_run_request::Kind,
};

use crate::{
    cli::{Fsck, Gc, GcCommand, Run},
    client::Client,
    commands::refused,
    output,
};

pub(crate) async fn run(client: &Client, gc: Gc) -> anyhow::Result<ExitCode> {
    match gc.command {
        None => collect(client, &gc.run).await,
        Some(GcCommand::Why { subject, snapshotter, json }) => {
            why(client, subject, snapshotter, json).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Collects, or says what would go.
pub(crate) async fn collect(client: &Client, run: &Run) -> anyhow::Result<ExitCode> {
    let ended = follow(client, Kind::Collect(Collect { dry_run: run.dry_run }), run.json, true).await?;
    if !run.json {
        output::print(&sums(&ended, run.dry_run))?;
    }
    // What could not be collected now may be collected later; but who asked shall know.
    Ok(if ended.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks for damage. Damage that stays is a failure.
pub(crate) async fn check(client: &Client, fsck: &Fsck) -> anyhow::Result<ExitCode> {
    let kind = Kind::Check(Check { deep: fsck.deep, repair: fsck.repair });
    let ended = follow(client, kind, fsck.json, true).await?;
    if !fsck.json {
        let read = if fsck.deep { format!(", {} read", output::size(ended.read_bytes)) } else { String::new() };
        output::print(&format!(
            "{} things looked at{read}: {} damaged, {} mended",
            ended.checked,
            ended.damaged + ended.mended + ended.failed,
            ended.mended
        ))?;
        if ended.damaged > 0 && !fsck.repair {
            output::print("mend them with `berth content fsck --repair`")?;
        }
    }
    Ok(if ended.damaged + ended.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// After something was removed: collects at once when asked to, and when no daemon is there to do it in its time.
pub(crate) async fn after_removal(client: &Client, sync: bool) -> anyhow::Result<()> {
    if !sync && !client.is_local {
        return Ok(());
    }
    let ended = follow(client, Kind::Collect(Collect::default()), false, false).await?;
    if sync {
        output::print(&sums(&ended, false))?;
    }
    Ok(())
}

/// Shows a run until it is over.
async fn follow(client: &Client, kind: Kind, json: bool, show: bool) -> anyhow::Result<Summary> {
    let request = StartRunRequest { kind: Some(kind) };
    let mut stream = client.gc().run(request).await.map_err(refused)?.into_inner();
    let mut last = ReadRunReply::default();
    while let Some(reply) = stream.message().await.map_err(refused)? {
        for item in &reply.items {
            match (show, json) {
                (true, true) => output::print_json(&item_json(item))?,
                (true, false) => output::print(&line(item))?,
                (false, _) => {}
            }
        }
        last = reply;
    }
    anyhow::ensure!(last.over, "the gc service went away in the middle of the run; what it did is done, run it again");
    let summary = last.summary.unwrap_or_default();
    if json && show {
        output::print_json(&serde_json::json!({ "summary": summary_json(&summary) }))?;
    }
    if !last.error.is_empty() {
        anyhow::bail!("{}", last.error);
    }
    Ok(summary)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unspecified => "unknown",
        Outcome::Removed => "removed",
        Outcome::WouldGo => "would remove",
        Outcome::Failed => "failed",
        Outcome::Damaged => "damaged",
        Outcome::Mended => "mended",
    }
}

fn line(item: &Item) -> String {
    let namespace = if item.namespace.is_empty() { String::new() } else { format!(" (namespace {})", item.namespace) };
    let size = if item.size > 0 { format!(" {}", output::size(item.size)) } else { String::new() };
    let note = if item.note.is_empty() { String::new() } else { format!(": {}", item.note) };
    format!("{} {}/{}{size}{namespace}{note}", word(item.outcome()), item.r#type, item.id)
}

fn item_json(item: &Item) -> serde_json::Value {
    serde_json::json!({
        "outcome": word(item.outcome()).replace(' ', "-"),
        "namespace": item.namespace,
        "type": item.r#type,
        "id": item.id,
        "size": item.size,
        "note": item.note,
    })
}

fn summary_json(summary: &Summary) -> serde_json::Value {
    let measure = |measure: Option<berth_wire::types::Measure>| {
        let measure = measure.unwrap_or_default();
        serde_json::json!({ "count": measure.count, "bytes": measure.disk })
    };
    serde_json::json!({
        "records": summary.records,
        "references": summary.references,
        "images": summary.images,
        "content": summary.contents,
        "snapshots": summary.snapshots,
        "leases": summary.leases,
        "blobs": measure(summary.blobs),
        "directories": measure(summary.directories),
        "ingests": measure(summary.ingests),
        "freedBytes": freed(summary),
        "kept": summary.kept,
        "failed": summary.failed,
        "checked": summary.checked,
        "readBytes": summary.read_bytes,
        "damaged": summary.damaged,
        "mended": summary.mended,
        "omitted": summary.omitted,
        "milliseconds": summary.milliseconds,
    })
}

/// What comes back on the disk.
fn freed(summary: &Summary) -> u64 {
    [summary.blobs, summary.directories, summary.ingests].into_iter().flatten().map(|measure| measure.disk).sum()
}

fn sums(summary: &Summary, dry_run: bool) -> String {
    let count = |measure: Option<berth_wire::types::Measure>| measure.unwrap_or_default().count;
    let parts = [
        (summary.images, "images"),
        (summary.contents, "content records"),
        (summary.snapshots, "snapshots"),
        (summary.leases, "ended leases"),
        (count(summary.blobs), "blobs"),
        (count(summary.directories), "directories"),
        (count(summary.ingests), "ingests"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() {
        return format!("nothing to collect: all of {} records is in use", summary.records);
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    let failed = if summary.failed > 0 { format!("; {} could not be removed", summary.failed) } else { String::new() };
    format!("{verb} {}: {} in {} ms{failed}", parts.join(", "), output::size(freed(summary)), summary.milliseconds)
}

async fn why(client: &Client, subject: String, snapshotter: String, json: bool) -> anyhow::Result<()> {
    let request = WhyRequest { namespace: client.namespace.clone(), subject, snapshotter };
    let reply = client.gc().why(request).await.map_err(refused)?.into_inner();
    let explained = reply.explained.unwrap_or_default();
    if json {
        let link = |link: &berth_wire::metadata::Link| serde_json::json!({ "type": link.r#type, "id": link.id, "because": link.because });
        return output::print_json(&serde_json::json!({
            "type": reply.r#type,
            "id": reply.id,
            "exists": explained.exists,
            "kept": !explained.chain.is_empty(),
            "chain": explained.chain.iter().map(link).collect::<Vec<_>>(),
            "alsoIn": explained.also_in,
        }));
    }
    let subject = format!("{}/{}", reply.r#type, reply.id);
    if !explained.exists {
        output::print(&format!("{subject} is not in namespace {}", client.namespace))?;
    }
    if explained.chain.is_empty() {
        output::print(&format!("nothing keeps {subject}; the next collection takes it"))?;
    } else {
        output::print(&format!("{subject} is kept:"))?;
    }
    for (depth, link) in explained.chain.iter().enumerate() {
        output::print(&format!(
            "{:indent$}{}/{}: {}",
            "",
            link.r#type,
            link.id,
            link.because,
            indent = 2 * (depth + 1)
        ))?;
    }
    if !explained.also_in.is_empty() {
        output::print(&format!("its bytes are also used in: {}", explained.also_in.join(", ")))?;
    }
    Ok(())
}
