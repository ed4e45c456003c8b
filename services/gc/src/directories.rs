//! Directories of snapshots that no record names: removed by the unpacker, which owns them.

use berth_api::measure;
use berth_model::Status;
use berth_wire::{
    gc::{Item, item::Outcome},
    types::Measure,
    unpacker::RemoveOrphansRequest,
};

use crate::collect::Collection;

/// Goes through the directories of a snapshotter.
pub(crate) async fn collect(run: &Collection<'_>, snapshotter: &str) -> Result<(), Status> {
    let r#type = format!("directories/{snapshotter}");
    let mut after = String::new();
    loop {
        let request =
            RemoveOrphansRequest { snapshotter: snapshotter.to_owned(), dry_run: run.dry_run, after: after.clone() };
        let page = run.backend.unpacker.remove_orphans(request).await?;
        let items: Vec<Item> = page
            .orphans
            .into_iter()
            .map(|orphan| {
                let item = run.item(&r#type, &orphan.name, orphan.disk);
                let outcome = if orphan.error.is_empty() { item.outcome() } else { Outcome::Failed };
                Item { outcome: outcome.into(), note: orphan.error, ..item }
            })
            .collect();
        run.report.count(|summary| {
            for item in items.iter().filter(|item| item.outcome() != Outcome::Failed) {
                let one = Measure { count: 1, size: item.size, disk: item.size };
                measure::add(summary.directories.get_or_insert_default(), &one);
            }
        });
        run.report.add(items);
        if !page.more {
            return Ok(());
        }
        after = page.next;
    }
}
