//! Blobs that no namespace records and no lease names: condemned, deleted, absolved.

use berth_api::measure;
use berth_model::{Code, Status};
use berth_wire::{
    content::{DeleteBlobsRequest, ListBlobsRequest, StatBlobReply},
    gc::Item,
    metadata::{AbsolveContentsRequest, CondemnContentsRequest, ListUnnamedRequest},
    types::Measure,
};

use crate::collect::{Collection, Mark, is_settled};

/// Goes through all blobs.
pub(crate) async fn collect(run: &Collection<'_>, mark: &Mark) -> Result<(), Status> {
    let mut after = String::new();
    loop {
        let page = run.backend.content.list_blobs(ListBlobsRequest { after, ..ListBlobsRequest::default() }).await?;
        let last = page.blobs.last().map(|blob| blob.digest.clone());
        let digests = page.blobs.iter().map(|blob| blob.digest.clone()).collect();
        let asked = ListUnnamedRequest { mark_id: mark.id.clone(), digests };
        let unnamed = match run.backend.metadata.list_unnamed(asked).await {
            // The sweep had to mark again; what it swept has no record any more, and who is named is seen below.
            Err(status) if status.code == Code::FailedPrecondition => {
                page.blobs.iter().map(|blob| blob.digest.clone()).collect()
            }
            listed => listed?.digests,
        };
        if run.dry_run {
            tell(run, page.blobs.iter().filter(|blob| unnamed.contains(&blob.digest)));
        } else if !unnamed.is_empty() {
            delete(run, mark, unnamed, &page.blobs).await?;
        }
        match last.filter(|_| page.more) {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Deletes those that are still unnamed. From the condemnation on nobody can name them, until it is over or ended here.
async fn delete(
    run: &Collection<'_>,
    mark: &Mark,
    digests: Vec<String>,
    blobs: &[StatBlobReply],
) -> Result<(), Status> {
    let condemned = run.backend.metadata.condemn_contents(CondemnContentsRequest { digests }).await?;
    if condemned.digests.is_empty() {
        return Ok(());
    }
    let request = DeleteBlobsRequest {
        digests: condemned.digests.clone(),
        not_after: condemned.until,
        owner: mark.owner.clone(),
    };
    let deleted = run.backend.content.delete_blobs(request).await;
    // A deletion of which nothing is known may be under way still: then the condemnation has to end by itself, or bytes
    // would go that somebody was told are there.
    if deleted.as_ref().err().is_none_or(is_settled) {
        let request = AbsolveContentsRequest { digests: condemned.digests, until: condemned.until };
        run.backend.metadata.absolve_contents(request).await?;
    }
    match deleted {
        Ok(deleted) => {
            let gone: Vec<&str> = deleted.deleted.iter().map(|blob| blob.digest.as_str()).collect();
            tell(run, blobs.iter().filter(|blob| gone.contains(&blob.digest.as_str())));
            Ok(())
        }
        Err(status) if is_settled(&status) => {
            run.failed("blobs", "", &status);
            Ok(())
        }
        Err(status) => Err(status),
    }
}

fn tell<'a>(run: &Collection<'_>, blobs: impl Iterator<Item = &'a StatBlobReply>) {
    let items: Vec<Item> = blobs.map(|blob| run.item("blobs", &blob.digest, blob.size)).collect();
    run.report.count(|summary| {
        for item in &items {
            let one = Measure { count: 1, size: item.size, disk: item.size };
            measure::add(summary.blobs.get_or_insert_default(), &one);
        }
    });
    run.report.add(items);
}
