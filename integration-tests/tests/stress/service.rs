//! Collection by the gc service itself.

use std::sync::Arc;

use berth_wire::{
    content::ListBlobsRequest,
    gc::{Collect, ReadRunRequest, StartRunRequest, Summary, start_run_request::Kind},
};

use crate::world::{World, count};

pub(crate) async fn collect_again_and_again(world: Arc<World>) {
    while !world.is_stopped() {
        let summary = collect(&world).await;
        count(&world.counts.rounds, 1);
        count(&world.counts.swept, usize::try_from(summary.contents).unwrap());
        count(&world.counts.deleted, usize::try_from(summary.blobs.unwrap_or_default().count).unwrap());
    }
}

/// One collection, to its end.
async fn collect(world: &World) -> Summary {
    let kind = Kind::Collect(Collect { dry_run: false });
    let run_id = world.gc.start_run(StartRunRequest { kind: Some(kind) }).await.unwrap().run_id;
    let mut after = 0;
    loop {
        let request = ReadRunRequest { run_id: run_id.clone(), after, wait_ms: 1000 };
        let read = world.gc.read_run(request).await.unwrap();
        assert_eq!(read.error, "", "a collection failed");
        after += read.items.len() as u64;
        if read.over {
            return read.summary.unwrap();
        }
    }
}

/// One collection is enough when all is quiet.
pub(crate) async fn collect_the_rest(world: &World) -> Vec<String> {
    collect(world).await;
    let left = world.content.list_blobs(ListBlobsRequest::default()).await.unwrap().blobs;
    left.into_iter().map(|blob| blob.digest).collect()
}
