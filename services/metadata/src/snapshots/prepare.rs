//! Preparing: a new active snapshot or view.

use berth_model::{Status, labels::Labels};
use berth_wire::metadata as msg;
use msg::snapshot::Kind;

use super::{Place, chain, drop_record, put_record};
use crate::{
    change::Change,
    check,
    event::Fact,
    leases, resource,
    tables::{meta, snapshot},
};

/// The label that asks for a committed snapshot by name instead, if it is there already (containerd's remote-snapshot
/// protocol): the answer is then `AlreadyExists`, and the lease holds that one.
const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";

/// A request whose fields were checked.
pub(crate) struct Prepare {
    place: Place,
    key: String,
    parent: String,
    kind: Kind,
    labels: Labels,
    replace: bool,
    lease: String,
    unless: String,
}

/// How it went, when something was written.
pub(crate) enum Prepared {
    /// There is a new snapshot.
    New(msg::PrepareSnapshotReply),
    /// The one its label asks for is there, and leased now.
    ThereAlready(Status),
}

impl Prepare {
    /// Checks the fields.
    pub(crate) fn parse(request: msg::PrepareSnapshotRequest) -> Result<Self, Status> {
        let kind = request.kind();
        if !matches!(kind, Kind::Active | Kind::View) {
            return Err(Status::invalid_argument(format!("cannot prepare a snapshot of kind {}", kind.word())));
        }
        check::labels(&request.labels)?;
        check::at_most("the parent", &request.parent)?;
        Ok(Self {
            place: Place::parse(&request.namespace, &request.snapshotter)?,
            key: check::name("the snapshot's key", &request.key)?,
            parent: request.parent,
            kind,
            labels: request.labels,
            replace: request.replace,
            lease: request.lease,
            unless: request.unless,
        })
    }
}

/// Records a new snapshot where there is none, and leases what is there.
pub(crate) fn prepare_missing(
    change: &mut Change<'_, '_>,
    wanted: Prepare,
) -> Result<msg::prepare_snapshots_reply::Prepared, Status> {
    let Prepare { place, key, lease, unless, .. } = &wanted;
    let mut unneeded = false;
    if !unless.is_empty() {
        hold(change, place, lease, unless)?;
        unneeded = snapshot::get(change.txn(), place, unless)?.is_some();
    }
    let begun = !unneeded && snapshot::get(change.txn(), place, key)?.is_some();
    if begun {
        hold(change, place, lease, key)?;
    }
    let id = match unneeded || begun {
        true => 0,
        false => match prepare(change, wanted)? {
            Prepared::New(new) => new.snapshot.map_or(0, |snapshot| snapshot.id),
            Prepared::ThereAlready(_) => 0,
        },
    };
    Ok(msg::prepare_snapshots_reply::Prepared { id, unneeded })
}

/// Records a new snapshot, its lease and its event.
pub(crate) fn prepare(change: &mut Change<'_, '_>, wanted: Prepare) -> Result<Prepared, Status> {
    let Prepare { place, key, parent, kind, labels, replace, lease, unless } = wanted;
    if let Some(target) = labels.get(SNAPSHOT_REF)
        && snapshot::get(change.txn(), &place, target)?.is_some_and(|found| found.kind() == Kind::Committed)
    {
        hold(change, &place, &lease, target)?;
        return Ok(Prepared::ThereAlready(place.taken(target)));
    }
    if !unless.is_empty() && snapshot::get(change.txn(), &place, &unless)?.is_some() {
        return Err(place.taken(&unless));
    }
    if !parent.is_empty() {
        place.find_parent(change.txn(), &parent)?;
    }
    let parent_ids = chain(change.txn(), &place, &parent)?;
    let replaced_id = match snapshot::get(change.txn(), &place, &key)? {
        None => 0,
        Some(present) if replace && present.kind() == Kind::Active => {
            drop_record(change, &place, &present);
            let fact = Fact::SnapshotRemoved { snapshotter: place.snapshotter.clone(), key: key.clone() };
            change.report(&place.namespace, &fact);
            present.id
        }
        Some(_) => return Err(place.taken(&key)),
    };
    let now = change.now();
    let record = msg::Snapshot {
        name: key.clone(),
        parent: parent.clone(),
        kind: kind.into(),
        created_at: Some(now),
        updated_at: Some(now),
        labels,
        usage: None,
        id: meta::next_snapshot_id(change.txn())?,
    };
    change.touch_namespace(&place.namespace)?;
    put_record(change, &place, &record);
    hold(change, &place, &lease, &key)?;
    if kind == Kind::Active {
        change.report(&place.namespace, &Fact::SnapshotPrepared { snapshotter: place.snapshotter, key, parent });
    }
    Ok(Prepared::New(msg::PrepareSnapshotReply { snapshot: Some(record), parent_ids, replaced_id }))
}

/// Adds a snapshot to a lease, if there is one.
pub(super) fn hold(change: &mut Change<'_, '_>, place: &Place, lease: &str, key: &str) -> Result<(), Status> {
    if lease.is_empty() {
        return Ok(());
    }
    let named = msg::Resource { r#type: resource::snapshots_of(&place.snapshotter), id: key.to_owned() };
    leases::add(change, &place.namespace, lease, &[named])
}

#[cfg(test)]
mod tests {
    use berth_model::Code;

    use super::*;

    #[test]
    fn requests_are_checked_before_anything_is_read() {
        let good = msg::PrepareSnapshotRequest {
            namespace: "default".into(),
            snapshotter: "overlay".into(),
            key: "k".into(),
            kind: Kind::Active.into(),
            ..msg::PrepareSnapshotRequest::default()
        };
        assert!(Prepare::parse(good.clone()).is_ok());
        for bad in [
            msg::PrepareSnapshotRequest { namespace: "a b".into(), ..good.clone() },
            msg::PrepareSnapshotRequest { snapshotter: String::new(), ..good.clone() },
            msg::PrepareSnapshotRequest { key: String::new(), ..good.clone() },
            msg::PrepareSnapshotRequest { kind: Kind::Committed.into(), ..good.clone() },
            msg::PrepareSnapshotRequest { kind: 9, ..good.clone() },
            msg::PrepareSnapshotRequest { labels: Labels::from([("k".into(), "v".repeat(5000))]), ..good },
        ] {
            assert_eq!(Prepare::parse(bad).err().unwrap().code, Code::InvalidArgument);
        }
    }
}
