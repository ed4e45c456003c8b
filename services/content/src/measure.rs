//! What the store takes of its disk.

use std::sync::Arc;

use berth_api::measure::{Measuring, add, children};
use berth_model::Status;
use berth_wire::{content as msg, types::Measure};

use crate::state::State;

/// Blobs, ingests, and the rest: the database, what was put aside, the directories themselves.
pub(crate) async fn measure(state: &Arc<State>) -> Result<msg::MeasureStoreReply, Status> {
    state
        .files(|store| {
            let (layout, mut measuring) = (store.layout(), Measuring::default());
            let mut blobs = Measure::default();
            for digest in layout.list_blobs()? {
                add(&mut blobs, &measuring.tree(&layout.blob(&digest))?);
            }
            let mut ingests = Measure::default();
            for dir in children(&layout.ingests())? {
                let found = measuring.tree(&dir)?;
                add(&mut ingests, &Measure { count: 1, ..found });
            }
            // What was counted above is not in it: it is skipped by name.
            let mut other = measuring.alone(layout.root())?;
            for path in children(layout.root())? {
                if path == layout.ingests() {
                    add(&mut other, &measuring.alone(&path)?);
                } else if path == layout.root().join("blobs") {
                    add(&mut other, &measuring.alone(&path)?);
                    add(&mut other, &measuring.alone(&layout.blobs())?);
                } else {
                    add(&mut other, &measuring.tree(&path)?);
                }
            }
            Ok(msg::MeasureStoreReply { blobs: Some(blobs), ingests: Some(ingests), other: Some(other) })
        })
        .await
}
