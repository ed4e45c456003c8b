//! One round of collection: the mark's result, and the sweep that follows it.

use berth_kv::Reader;
use berth_model::{Code, Status};
use berth_wire::{metadata as msg, types};

use super::{
    barrier::Barrier,
    graph::{Graph, Id, Reach},
    node::{Node, Thing},
    scan,
};
use crate::{
    change::Change,
    contents,
    fences::{Fence, Fences},
    images, leases,
    snapshots::{self, Place},
    tables::{content, image, lease, snapshot},
};

/// A completed mark, and how far its sweep is.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) id: String,
    graph: Graph,
    /// In the order of the sweep.
    garbage: Vec<Id>,
    ended_leases: Vec<(String, String)>,
    swept: usize,
    /// Written since the mark, and not followed yet.
    noted: Vec<Node>,
    fences: Fences,
}

impl Round {
    /// Marks one state of the tables.
    pub(crate) fn mark(id: String, from: &impl Reader, now: types::Time, fences: Fences) -> Result<Self, Status> {
        let read = if fences.lacks(Fence::CompletedMark) { scan::records(from, now) } else { scan::all(from, now) };
        let scan::Scanned { mut graph, ended_leases } = read?;
        graph.mark();
        let garbage = graph.garbage();
        Ok(Self { id, graph, garbage, ended_leases, swept: 0, noted: Vec::new(), fences })
    }

    /// What it found.
    pub(crate) fn reply(&self) -> msg::MarkReply {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (records, references) = self.graph.size();
        msg::MarkReply {
            mark_id: self.id.clone(),
            records: count(records),
            references: count(references),
            garbage: count(self.garbage.len()),
            ended_leases: count(self.ended_leases.len()),
            ..msg::MarkReply::default()
        }
    }

    /// The garbage from a position on, with what its records say now.
    pub(crate) fn list(&self, from: &impl Reader, first: usize, limit: usize) -> Result<Vec<msg::Garbage>, Status> {
        let wanted = self.garbage.iter().skip(first).take(limit);
        wanted.filter_map(|id| self.graph.node(*id)).map(|node| describe(from, node)).collect()
    }

    /// Whether it was found to be garbage.
    pub(crate) fn is_garbage(&self, node: &Node) -> bool {
        self.graph.find(node).is_some_and(|id| self.graph.reached(id) == Reach::Garbage)
    }

    pub(crate) fn garbage_count(&self) -> usize {
        self.garbage.len()
    }

    /// Whether something was swept.
    pub(crate) fn has_begun(&self) -> bool {
        self.swept > 0
    }

    /// Takes what was noted. Only among the writers: what is noted is written when the next change begins, and not before.
    pub(crate) fn gather(&mut self, barrier: &Barrier) -> Result<(), Status> {
        let noted = barrier.take().ok_or_else(|| Status::aborted("too much changed since the mark; mark again"))?;
        self.noted.extend(noted);
        Ok(())
    }

    /// Keeps what was gathered and all it refers to, in a state that was read after it was gathered.
    pub(crate) fn follow(&mut self, from: &impl Reader) -> Result<(), Status> {
        self.keep(from, self.noted.clone())?;
        self.noted.clear();
        Ok(())
    }

    /// Deletes the next records that are still unreferenced, at most so many. One change: what it looks at cannot
    /// change meanwhile.
    pub(crate) fn sweep(
        &mut self,
        change: &mut Change<'_, '_>,
        barrier: &Barrier,
        limit: usize,
    ) -> Result<msg::SweepReply, Status> {
        if !self.fences.lacks(Fence::OneChange) {
            self.gather(barrier)?;
        }
        self.follow(change.txn())?;
        let mut reply = msg::SweepReply::default();
        for (namespace, id) in std::mem::take(&mut self.ended_leases) {
            let over =
                lease::get(change.txn(), &namespace, &id)?.is_some_and(|lease| leases::is_over(&lease, change.now()));
            if over {
                leases::delete(change, &namespace, &id)?;
                reply.ended_leases += 1;
            }
        }
        let batch: Vec<Id> = self.garbage.iter().skip(self.swept).take(limit).copied().collect();
        for id in &batch {
            let Some(node) = self.graph.node(*id).filter(|_| self.graph.reached(*id) == Reach::Garbage).cloned() else {
                reply.kept += 1;
                continue;
            };
            let garbage = describe(change.txn(), &node)?;
            match delete(change, &node) {
                Ok(()) => reply.removed.push(garbage),
                // Removed by somebody else.
                Err(status) if status.code == Code::NotFound => reply.kept += 1,
                // In use in a way that only the deletion sees: then what it refers to is, too.
                Err(status) if status.code == Code::FailedPrecondition => {
                    reply.kept += 1;
                    self.keep(change.txn(), vec![node])?;
                }
                Err(status) => return Err(status),
            }
        }
        self.swept += batch.len();
        reply.done = self.swept >= self.garbage.len();
        Ok(reply)
    }

    /// Keeps nodes and all they refer to.
    fn keep(&mut self, from: &impl Reader, mut todo: Vec<Node>) -> Result<(), Status> {
        while let Some(node) = todo.pop() {
            let id = self.graph.id(node.clone());
            self.graph.raise(id, Reach::Full, id);
            if self.fences.lacks(Fence::Trace) {
                continue;
            }
            let mut next = scan::below(from, &node)?;
            next.extend(self.graph.kept_by(id).into_iter().filter_map(|kept| self.graph.node(kept).cloned()));
            // What was reached fully was followed then, and what was written since is in the list itself.
            todo.extend(
                next.into_iter()
                    .filter(|next| self.graph.find(next).is_none_or(|id| self.graph.reached(id) != Reach::Full)),
            );
        }
        Ok(())
    }
}

/// What is told of a record that goes or would go.
pub(crate) fn describe(from: &impl Reader, node: &Node) -> Result<msg::Garbage, Status> {
    let namespace = node.namespace.to_string();
    Ok(match &node.thing {
        Thing::Image(name) => {
            msg::Garbage { namespace, r#type: "images".into(), id: name.to_string(), ..msg::Garbage::default() }
        }
        Thing::Content(digest) => {
            let size = content::get(from, &namespace, digest)?.map_or(0, |record| record.size);
            msg::Garbage {
                namespace,
                r#type: "content".into(),
                id: digest.to_string(),
                size,
                ..msg::Garbage::default()
            }
        }
        Thing::Snapshot { snapshotter, key } => {
            let place = Place { namespace: namespace.clone(), snapshotter: snapshotter.to_string() };
            let record = snapshot::get(from, &place, key)?.unwrap_or_default();
            msg::Garbage {
                namespace,
                r#type: format!("snapshots/{snapshotter}"),
                id: key.to_string(),
                size: record.usage.map_or(0, |usage| usage.size),
                snapshot_id: record.id,
            }
        }
    })
}

fn delete(change: &mut Change<'_, '_>, node: &Node) -> Result<(), Status> {
    let namespace = &*node.namespace;
    match &node.thing {
        Thing::Image(name) => {
            let now = change.now();
            let expired =
                image::get(change.txn(), namespace, name)?.is_none_or(|image| scan::is_expired(&image.labels, now));
            if !expired {
                return Err(Status::failed_precondition("it is no longer expired"));
            }
            images::delete(change, namespace, name, None)
        }
        Thing::Content(digest) => contents::delete(change, namespace, digest),
        Thing::Snapshot { snapshotter, key } => {
            let place = Place { namespace: namespace.to_owned(), snapshotter: snapshotter.to_string() };
            snapshots::remove(change, &place, key, 0).map(drop)
        }
    }
}
