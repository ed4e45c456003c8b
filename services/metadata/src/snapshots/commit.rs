//! Committing: an active snapshot becomes a committed one, under its name and with labels given anew.

use berth_model::{Status, labels::Labels};
use berth_wire::{metadata as msg, types};
use msg::snapshot::Kind;

use super::{Place, drop_record, prepare::hold, put_record};
use crate::{change::Change, check, event::Fact, leases, resource, tables::snapshot};

/// A request whose fields were checked.
pub(crate) struct Commit {
    place: Place,
    key: String,
    name: String,
    labels: Labels,
    usage: types::Usage,
    parent: String,
    id: u64,
    lease: String,
}

impl Commit {
    /// Checks the fields.
    pub(crate) fn parse(request: msg::CommitSnapshotRequest) -> Result<Self, Status> {
        check::labels(&request.labels)?;
        check::at_most("the parent", &request.parent)?;
        Ok(Self {
            place: Place::parse(&request.namespace, &request.snapshotter)?,
            key: check::name("the snapshot's key", &request.key)?,
            name: check::name("the committed name", &request.name)?,
            labels: request.labels,
            usage: request.usage.unwrap_or_default(),
            parent: request.parent,
            id: request.id,
            lease: request.lease,
        })
    }

    /// Whether `active` is the one that is meant, and on which parent the committed one stands.
    fn decide(&self, active: &msg::Snapshot) -> Result<String, Status> {
        let Place { namespace, snapshotter } = &self.place;
        let what = || format!("snapshot {:?} of snapshotter {snapshotter:?} in namespace {namespace:?}", self.key);
        if active.kind() != Kind::Active {
            return Err(Status::failed_precondition(format!("{} is {}, not active", what(), active.kind().word())));
        }
        if self.id != 0 && self.id != active.id {
            return Err(Status::aborted(format!(
                "{} was prepared anew meanwhile: its id is {}, not {}",
                what(),
                active.id,
                self.id
            )));
        }
        match (active.parent.as_str(), self.parent.as_str()) {
            (own, "") => Ok(own.to_owned()),
            ("", new) => Ok(new.to_owned()),
            (own, new) if own == new => Ok(own.to_owned()),
            (own, new) => Err(Status::failed_precondition(format!(
                "{} has parent {own:?} and cannot be rebased onto {new:?}",
                what()
            ))),
        }
    }
}

/// Commits; the leases that named the key name the committed one from now on.
pub(crate) fn commit(change: &mut Change<'_, '_>, wanted: Commit) -> Result<msg::Snapshot, Status> {
    let place = wanted.place.clone();
    let active = snapshot::get(change.txn(), &place, &wanted.key)?;
    if let Some(present) = snapshot::get(change.txn(), &place, &wanted.name)? {
        // The same commit again, whose first answer was lost: the id, never used twice, says so.
        let again = active.is_none() && wanted.id != 0 && present.id == wanted.id && present.kind() == Kind::Committed;
        return if again { Ok(present) } else { Err(place.taken(&wanted.name)) };
    }
    let active = active.map_or_else(|| place.find(change.txn(), &wanted.key), Ok)?;
    let parent = wanted.decide(&active)?;
    if !parent.is_empty() {
        place.find_parent(change.txn(), &parent)?;
    }
    let now = change.now();
    let Commit { key, name, labels, usage, lease, .. } = wanted;
    let committed = msg::Snapshot {
        name: name.clone(),
        parent,
        kind: Kind::Committed.into(),
        created_at: Some(now),
        updated_at: Some(now),
        labels,
        usage: Some(usage),
        id: active.id,
    };
    drop_record(change, &place, &active);
    put_record(change, &place, &committed);
    let named = msg::Resource { r#type: resource::snapshots_of(&place.snapshotter), id: key.clone() };
    leases::rename(change, &place.namespace, &named, &name)?;
    hold(change, &place, &lease, &name)?;
    change.report(&place.namespace, &Fact::SnapshotCommitted { snapshotter: place.snapshotter, key, name });
    Ok(committed)
}

#[cfg(test)]
mod tests {
    use berth_model::Code;

    use super::*;

    #[test]
    fn what_is_committed_onto_what_as_a_table() {
        for (kind, own, id, wanted_parent, wanted_id, expected) in [
            (Kind::Active, "", 7, "", 0, Ok("")),
            (Kind::Active, "", 7, "", 7, Ok("")),
            (Kind::Active, "p", 7, "", 7, Ok("p")),
            (Kind::Active, "", 7, "p", 7, Ok("p")),
            (Kind::Active, "p", 7, "p", 7, Ok("p")),
            (Kind::Active, "p", 7, "q", 7, Err(Code::FailedPrecondition)),
            (Kind::Active, "", 8, "", 7, Err(Code::Aborted)),
            (Kind::View, "p", 7, "", 7, Err(Code::FailedPrecondition)),
            (Kind::Committed, "", 7, "", 7, Err(Code::FailedPrecondition)),
        ] {
            let active = msg::Snapshot { parent: own.into(), kind: kind.into(), id, ..msg::Snapshot::default() };
            let wanted = Commit::parse(msg::CommitSnapshotRequest {
                namespace: "default".into(),
                snapshotter: "overlay".into(),
                key: "k".into(),
                name: "n".into(),
                parent: wanted_parent.into(),
                id: wanted_id,
                ..msg::CommitSnapshotRequest::default()
            })
            .unwrap();
            let found = wanted.decide(&active).map_err(|status| status.code);
            assert_eq!(found, expected.map(str::to_owned), "{kind:?} {own:?} {id} {wanted_parent:?} {wanted_id}");
        }
    }
}
