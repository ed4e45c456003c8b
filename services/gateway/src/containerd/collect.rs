//! The `sync` of a deletion: answer when what only the deleted thing kept is gone too. The one place that asks for it.

use berth_model::Status;

use crate::Backend;

/// Waits for a collection that begins after now.
pub(crate) async fn collect(_backend: &Backend) -> Result<(), Status> {
    // Records are deleted at once either way; their data goes when the collector next runs.
    Ok(())
}
