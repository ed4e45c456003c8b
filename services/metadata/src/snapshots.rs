//! The rules of snapshot records: active, committed, view; who may be on top of whom.
//!
//! Active, committed and view snapshots of one snapshotter share their keys, as in containerd. A snapshot names its
//! directory by an id that is never used twice: the counter moves in the same synced batch that writes the record, so
//! no power cut can lose one and keep the other. (Handing ids out from memory, or not waiting for the disk, would save
//! a flush that group commit already shares, and could give a new snapshot the directory of a lost one.)

mod commit;
mod prepare;

use berth_kv::Reader;
use berth_model::Status;
use berth_wire::metadata as msg;
use msg::snapshot::Kind;

pub(crate) use commit::{Commit, commit};
pub(crate) use prepare::{Prepare, Prepared, prepare, prepare_missing};

use crate::{
    change::Change,
    check,
    collection::Node,
    event::Fact,
    missing,
    tables::{child, snapshot},
};

/// Deepest chain that is followed. Overlay mounts end at 500 lower directories, a page of options earlier still.
const DEEPEST: usize = 4096;

/// Where a snapshot is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) snapshotter: String,
}

impl Place {
    /// Checks the fields.
    pub(crate) fn parse(namespace: &str, snapshotter: &str) -> Result<Self, Status> {
        Ok(Self { namespace: check::namespace(namespace)?, snapshotter: check::snapshotter(snapshotter)? })
    }

    /// The snapshot that must be there.
    pub(crate) fn find(&self, read: &impl Reader, key: &str) -> Result<msg::Snapshot, Status> {
        snapshot::get(read, self, key)?.ok_or_else(|| missing::snapshot(&self.namespace, &self.snapshotter, key))
    }

    /// The snapshot that must be there and be one to build on.
    fn find_parent(&self, read: &impl Reader, key: &str) -> Result<msg::Snapshot, Status> {
        let parent =
            snapshot::get(read, self, key)?.ok_or_else(|| missing::parent(&self.namespace, &self.snapshotter, key))?;
        if parent.kind() != Kind::Committed {
            return Err(Status::invalid_argument(format!(
                "parent snapshot {key:?} of snapshotter {:?} in namespace {:?} is {}, not committed",
                self.snapshotter,
                self.namespace,
                parent.kind().word()
            )));
        }
        Ok(parent)
    }

    fn taken(&self, key: &str) -> Status {
        let Self { namespace, snapshotter } = self;
        let words =
            format!("snapshot {key:?} of snapshotter {snapshotter:?} in namespace {namespace:?} already exists");
        Status::already_exists(words)
    }
}

/// Ids of the chain that begins with `parent`, newest first. What has a child cannot be removed, so a gap is damage.
pub(crate) fn chain(read: &impl Reader, place: &Place, parent: &str) -> Result<Vec<u64>, Status> {
    let mut ids = Vec::new();
    let mut next = parent.to_owned();
    while !next.is_empty() {
        let Some(below) = snapshot::get(read, place, &next)? else {
            let words = missing::parent(&place.namespace, &place.snapshotter, &next).message;
            return Err(Status::data_loss(format!("{words}, although a snapshot stands on it")));
        };
        if ids.len() == DEEPEST {
            return Err(Status::failed_precondition(format!("snapshot {parent:?} has more than {DEEPEST} below it")));
        }
        ids.push(below.id);
        next = below.parent;
    }
    Ok(ids)
}

/// Drops a record; with an `id` that is not 0, only if that is its own.
pub(crate) fn remove(change: &mut Change<'_, '_>, place: &Place, key: &str, id: u64) -> Result<msg::Snapshot, Status> {
    let found = place.find(change.txn(), key)?;
    if id != 0 && id != found.id {
        let Place { namespace, snapshotter } = place;
        return Err(Status::aborted(format!(
            "snapshot {key:?} of snapshotter {snapshotter:?} in namespace {namespace:?} was prepared anew meanwhile: its id is {}, \
             not {id}",
            found.id
        )));
    }
    if child::any(change.txn(), place, key)? {
        let Place { namespace, snapshotter } = place;
        let what = format!("snapshot {key:?} of snapshotter {snapshotter:?} in namespace {namespace:?}");
        return Err(Status::failed_precondition("cannot remove snapshot with child").context(what));
    }
    drop_record(change, place, &found);
    change.frees();
    change.report(
        &place.namespace,
        &Fact::SnapshotRemoved { snapshotter: place.snapshotter.clone(), key: key.to_owned() },
    );
    Ok(found)
}

/// Merges labels; or replaces them all.
pub(crate) fn update(
    change: &mut Change<'_, '_>,
    place: &Place,
    key: &str,
    labels: &berth_model::labels::Labels,
    replace: bool,
) -> Result<msg::Snapshot, Status> {
    let mut found = place.find(change.txn(), key)?;
    if replace {
        found.labels.clear();
    }
    berth_model::labels::merge(&mut found.labels, labels);
    check::labels(&found.labels)?;
    found.updated_at = Some(change.now());
    keeps(change, place, &found.name);
    snapshot::put(change.txn(), place, &found);
    Ok(found)
}

/// Writes a record and its place below its parent.
fn put_record(change: &mut Change<'_, '_>, place: &Place, record: &msg::Snapshot) {
    if !record.parent.is_empty() {
        child::put(change.txn(), place, &record.parent, &record.name);
    }
    keeps(change, place, &record.name);
    snapshot::put(change.txn(), place, record);
}

fn keeps(change: &Change<'_, '_>, place: &Place, key: &str) {
    change.keeps(|| Some(Node::snapshot(&place.namespace, &place.snapshotter, key)));
}

/// Undoes [`put_record`].
fn drop_record(change: &mut Change<'_, '_>, place: &Place, record: &msg::Snapshot) {
    if !record.parent.is_empty() {
        child::delete(change.txn(), place, &record.parent, &record.name);
    }
    snapshot::delete(change.txn(), place, &record.name);
}
