//! Directories that no record names: found, and removed.
//!
//! A record comes before its directory and goes before it. So what was on the disk before the records were asked, and is
//! not among them, belongs to a snapshot that is gone; ids are never used twice.

use std::{collections::BTreeSet, path::Path};

use berth_api::{
    blocking,
    measure::{Measuring, add, children},
    metadata::Metadata,
    owner,
};
use berth_model::Status;
use berth_wire::{metadata::KnownSnapshotsRequest, types::Measure, unpacker as msg};

use crate::layout::{self, Layout};

/// Directories removed in one call: it answers within seconds.
const AT_ONCE: usize = 64;
/// Ids asked for in one call.
const ASKED_AT_ONCE: usize = 4096;
/// What a removal calls what it erases.
const GOING: &str = "rm-";
/// What a snapshot is called that is being made.
const COMING: &str = "new-";

/// Removes some orphans, or says which there are.
pub(crate) async fn remove(
    metadata: &dyn Metadata,
    layout: &Layout,
    request: msg::RemoveOrphansRequest,
) -> Result<msg::RemoveOrphansReply, Status> {
    let dirs = layout.clone();
    let names: Vec<String> = blocking(move || names(&dirs.all())).await?;
    let ids: Vec<u64> = names.iter().filter_map(|name| id(name)).collect();
    let mut known = BTreeSet::new();
    for asked in ids.chunks(ASKED_AT_ONCE) {
        let snapshotter = request.snapshotter.clone();
        let reply = metadata.known_snapshots(KnownSnapshotsRequest { snapshotter, ids: asked.to_vec() }).await?;
        owner::check(layout.root(), &reply.store_id)?;
        known.extend(reply.ids);
    }
    let mut orphans: Vec<String> = names
        .into_iter()
        .filter(|name| id(name).map_or(name.starts_with(GOING), |id| !known.contains(&id)))
        .filter(|name| !request.dry_run || request.after.is_empty() || *name > request.after)
        .collect();
    orphans.sort_unstable();
    let more = orphans.len() > AT_ONCE;
    orphans.truncate(AT_ONCE);
    let (layout, dry_run) = (layout.clone(), request.dry_run);
    blocking(move || {
        let mut reply = msg::RemoveOrphansReply { more, ..msg::RemoveOrphansReply::default() };
        for name in orphans {
            let disk = Measuring::default().tree(&layout.all().join(&name))?.disk;
            let removed = if dry_run { Ok(()) } else { erase(&layout, &name) };
            let error = removed.err().map(|status| status.to_string()).unwrap_or_default();
            reply.next.clone_from(&name);
            reply.orphans.push(msg::remove_orphans_reply::Orphan { name, disk, error });
        }
        // What cannot be removed must not be tried for ever.
        reply.more &= dry_run || reply.orphans.iter().any(|orphan| orphan.error.is_empty());
        Ok(reply)
    })
    .await
}

/// The snapshot that a directory is, or was to become.
fn id(name: &str) -> Option<u64> {
    name.strip_prefix(COMING).unwrap_or(name).parse().ok()
}

fn names(all: &Path) -> Result<Vec<String>, Status> {
    let paths = children(all)?;
    Ok(paths.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
}

fn erase(layout: &Layout, name: &str) -> Result<(), Status> {
    match name.parse() {
        Ok(id) => layout.remove(id),
        Err(_) => layout::erase(&layout.all().join(name)),
    }
}

/// What the snapshotter takes of its disk.
pub(crate) async fn measure(layout: Layout) -> Result<msg::MeasureSnapshotsReply, Status> {
    blocking(move || {
        let mut measuring = Measuring::default();
        let (mut snapshots, mut other) = (Measure::default(), measuring.alone(layout.root())?);
        for path in children(layout.root())? {
            if path != layout.all() {
                add(&mut other, &measuring.tree(&path)?);
                continue;
            }
            add(&mut other, &measuring.alone(&path)?);
            for snapshot in children(&path)? {
                let found = measuring.tree(&snapshot)?;
                add(&mut snapshots, &Measure { count: 1, ..found });
            }
        }
        Ok(msg::MeasureSnapshotsReply { snapshots: Some(snapshots), other: Some(other) })
    })
    .await
}
