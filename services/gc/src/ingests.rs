//! Ingests that nobody wrote to for long, and no lease names.

use std::time::Duration;

use berth_api::measure;
use berth_model::Status;
use berth_wire::{
    content::{AbortIngestRequest, Ingest, ListIngestsRequest},
    metadata::{LeasedRequest, Resource},
    types::{Measure, Time},
};

use crate::collect::{Collection, is_settled};

const TYPE: &str = "ingests";

/// Goes through all ingests.
pub(crate) async fn collect(run: &Collection<'_>, age: Duration) -> Result<(), Status> {
    let now = Time::now();
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let untouched_since = Time { seconds: now.seconds.saturating_sub(seconds), nanos: now.nanos };
    let mut after = String::new();
    loop {
        let request = ListIngestsRequest { after, ..ListIngestsRequest::default() };
        let page = run.backend.content.list_ingests(request).await?;
        let last = page.ingests.last().map(|ingest| ingest.r#ref.clone());
        let old: Vec<Ingest> = page
            .ingests
            .into_iter()
            .filter(|ingest| !ingest.active)
            .filter(|ingest| ingest.updated_at.is_none_or(|at| at.millis() <= untouched_since.millis()))
            .collect();
        for ingest in unleased(run, old).await? {
            abort(run, ingest, untouched_since).await?;
        }
        match last.filter(|_| page.more) {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

async fn unleased(run: &Collection<'_>, ingests: Vec<Ingest>) -> Result<Vec<Ingest>, Status> {
    if ingests.is_empty() {
        return Ok(ingests);
    }
    let resource = |ingest: &Ingest| Resource { r#type: TYPE.to_owned(), id: ingest.r#ref.clone() };
    let resources = ingests.iter().map(resource).collect();
    let leased = run.backend.metadata.leased(LeasedRequest { resources }).await?.resources;
    Ok(ingests.into_iter().filter(|ingest| !leased.iter().any(|named| named.id == ingest.r#ref)).collect())
}

/// A lease that comes between the question and this finds the ingest gone, and begins it anew; one that is written to
/// is refused.
async fn abort(run: &Collection<'_>, ingest: Ingest, untouched_since: Time) -> Result<(), Status> {
    if !run.dry_run {
        let request = AbortIngestRequest { r#ref: ingest.r#ref.clone(), untouched_since: Some(untouched_since) };
        match run.backend.content.abort_ingest(request).await {
            Ok(_) => {}
            Err(status) if is_settled(&status) => return Ok(()),
            Err(status) => return Err(status),
        }
    }
    run.report.count(|summary| {
        let one = Measure { count: 1, size: ingest.offset, disk: ingest.offset };
        measure::add(summary.ingests.get_or_insert_default(), &one);
    });
    run.report.add([run.item(TYPE, &ingest.r#ref, ingest.offset)]);
    Ok(())
}
