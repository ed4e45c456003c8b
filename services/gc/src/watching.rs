//! Shows metadata that the collector of a round is there: if this process dies, the next collector need not wait for long.

use std::{sync::Arc, time::Duration};

use berth_api::metadata::Metadata;
use berth_model::Code;
use berth_wire::metadata::WatchMarkRequest;
use tokio::task::JoinHandle;

/// How long one poll waits.
const WAIT_MS: u32 = 10_000;
/// After metadata did not answer.
const RETRY: Duration = Duration::from_millis(500);

/// For as long as it is not dropped.
#[derive(Debug)]
pub(crate) struct Watching(JoinHandle<()>);

impl Watching {
    pub(crate) fn begin(metadata: &Arc<dyn Metadata>, mark_id: &str) -> Self {
        let (metadata, mark_id) = (Arc::clone(metadata), mark_id.to_owned());
        Self(tokio::spawn(async move {
            loop {
                let request = WatchMarkRequest { mark_id: mark_id.clone(), wait_ms: WAIT_MS };
                match metadata.watch_mark(request).await {
                    Ok(_) => {}
                    Err(status) if status.code == Code::FailedPrecondition => return,
                    Err(status) => {
                        tracing::debug!(%status, "the round is not watched for a moment");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}
