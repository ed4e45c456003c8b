//! The `sync` of a deletion: answer when what only the deleted thing kept is gone too. The one place that asks for it.

use berth_model::Status;
use berth_wire::gc::{Collect, ReadRunRequest, StartRunRequest, start_run_request::Kind};

use crate::Backend;

const WAIT_MS: u32 = 10_000;

/// Waits for a collection that saw everything that was changed before now.
pub(crate) async fn collect(backend: &Backend) -> Result<(), Status> {
    let start = StartRunRequest { kind: Some(Kind::Collect(Collect { dry_run: false })) };
    let run_id = backend.gc.start_run(start).await?.run_id;
    let mut after = 0;
    loop {
        let read = ReadRunRequest { run_id: run_id.clone(), after, wait_ms: WAIT_MS };
        let news = backend.gc.read_run(read).await?;
        after += news.items.len() as u64;
        if !news.error.is_empty() {
            return Err(Status::unavailable(format!(
                "it was deleted, but the collection of what it kept ended early: {}",
                news.error
            )));
        }
        if news.over {
            return Ok(());
        }
    }
}
