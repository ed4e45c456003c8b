//! `berth jobs`: what workers gave up on.

use berth_wire::gateway::{DeadJob, GetJobRequest, ListJobsRequest, RemoveJobRequest, RequeueJobRequest};
use serde_json::{Value, json};

use crate::{
    cli::{Jobs, List},
    client::Client,
    commands::refused,
    output,
};

pub(crate) async fn run(client: &Client, command: Jobs) -> anyhow::Result<()> {
    match command {
        Jobs::Ls { list, kind } => ls(client, &list, kind.unwrap_or_default()).await,
        Jobs::Show { id, json } => show(client, id, json).await,
        Jobs::Requeue { ids, all } => {
            for id in chosen(client, ids, all).await? {
                client.jobs().requeue(RequeueJobRequest { id: id.clone() }).await.map_err(refused)?;
                output::print(&id)?;
            }
            Ok(())
        }
        Jobs::Rm { ids, all } => {
            for id in chosen(client, ids, all).await? {
                client.jobs().remove(RemoveJobRequest { id: id.clone() }).await.map_err(refused)?;
                output::print(&id)?;
            }
            Ok(())
        }
    }
}

async fn dead(client: &Client, kind: String) -> anyhow::Result<Vec<DeadJob>> {
    Ok(client.jobs().list(ListJobsRequest { kind }).await.map_err(refused)?.into_inner().jobs)
}

async fn chosen(client: &Client, ids: Vec<String>, all: bool) -> anyhow::Result<Vec<String>> {
    if !all {
        return Ok(ids);
    }
    Ok(dead(client, String::new()).await?.into_iter().map(|job| job.id).collect())
}

fn record(job: &DeadJob) -> Value {
    json!({
        "id": job.id, "kind": job.kind, "key": job.key, "code": job.code, "reason": job.reason,
        "attempts": job.attempts, "givenUpAt": job.given_up_at,
    })
}

async fn ls(client: &Client, list: &List, kind: String) -> anyhow::Result<()> {
    let jobs = dead(client, kind).await?;
    if list.quiet {
        return Ok(jobs.iter().try_for_each(|job| output::print(&job.id))?);
    }
    if list.json {
        return jobs.iter().try_for_each(|job| output::print_json(&record(job)));
    }
    let mut table = output::table(&["JOB ID", "KIND", "GIVEN UP AT", "ATTEMPTS", "KEY", "REASON"]);
    for job in jobs {
        let reason = job.reason.lines().next().unwrap_or_default().to_owned();
        table.add_row([job.id, job.kind, job.given_up_at, job.attempts.to_string(), job.key, reason]);
    }
    Ok(output::print_table(&table)?)
}

async fn show(client: &Client, id: String, as_json: bool) -> anyhow::Result<()> {
    let reply = client.jobs().get(GetJobRequest { id }).await.map_err(refused)?.into_inner();
    let job = reply.job.unwrap_or_default();
    let message: Value = serde_json::from_str(&reply.message).unwrap_or(Value::Null);
    if as_json {
        let mut whole = record(&job);
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("job".to_owned(), message);
        }
        return output::print_json(&whole);
    }
    Ok(output::print(&format!(
        "Job:       {}\nKind:      {}\nKey:       {}\nGiven up:  {}, after {} attempts\nReason:    {}: {}\nMessage:   {}\n",
        job.id,
        job.kind,
        job.key,
        job.given_up_at,
        job.attempts,
        job.code,
        job.reason,
        serde_json::to_string_pretty(&message)?,
    ))?)
}
