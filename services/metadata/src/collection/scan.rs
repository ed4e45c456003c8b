//! Reading the graph: all records of one state, or what one record refers to now.

use berth_kv::Reader;
use berth_model::{Digest, Status, labels, labels::Labels, references};
use berth_wire::{metadata as msg, types};
use msg::snapshot::Kind;

use super::{
    graph::{Graph, Id, Reach},
    node::{Node, Thing},
};
use crate::{
    leases::is_over,
    snapshots::Place,
    tables::{container, content, image, lease, lease_resource, snapshot},
};

/// What was read beside the graph.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) graph: Graph,
    /// Leases that are over: namespace and id.
    pub(crate) ended_leases: Vec<(String, String)>,
}

/// Reads all tables into a graph with its roots.
pub(crate) fn all(from: &impl Reader, now: types::Time) -> Result<Scanned, Status> {
    let mut scanned = records(from, now)?;
    leases(from, now, &mut scanned)?;
    Ok(scanned)
}

/// Reads what has a record. What leases protect is missing: no mark is complete with this.
pub(crate) fn records(from: &impl Reader, now: types::Time) -> Result<Scanned, Status> {
    let mut scanned = Scanned::default();
    let graph = &mut scanned.graph;
    image::each(from, |namespace, record| {
        let node = Node::image(namespace, &record.name);
        let id = graph.record(node.clone());
        if !is_expired(&record.labels, now) {
            graph.root(node.clone(), Reach::Full);
        }
        if let Some(target) = target(&record) {
            graph.structure(id, Node::content(namespace, target));
        }
        by_labels(graph, id, &node, &record.labels);
        Ok(())
    })?;
    content::each(from, |namespace, digest, record| {
        let node = Node::content(namespace, digest);
        let id = graph.record(node.clone());
        if references::is_root(&record.labels) {
            graph.root(node.clone(), Reach::Full);
        }
        by_labels(graph, id, &node, &record.labels);
        Ok(())
    })?;
    snapshot::each(from, |place, record| {
        let node = Node::snapshot(&place.namespace, &place.snapshotter, &record.name);
        let id = graph.record(node.clone());
        if is_root(&record) {
            graph.root(node.clone(), Reach::Full);
        }
        if !record.parent.is_empty() {
            graph.structure(id, Node::snapshot(&place.namespace, &place.snapshotter, &record.parent));
        }
        by_labels(graph, id, &node, &record.labels);
        Ok(())
    })?;
    container::each(from, |namespace, record| {
        // Whether it runs or not: somebody may start it again.
        for node in Node::of_container(namespace, &record) {
            graph.root(node, Reach::Full);
        }
        Ok(())
    })?;
    Ok(scanned)
}

fn leases(from: &impl Reader, now: types::Time, scanned: &mut Scanned) -> Result<(), Status> {
    let Scanned { graph, ended_leases } = scanned;
    lease::each(from, |namespace, record| {
        if is_over(&record, now) {
            ended_leases.push((namespace.to_owned(), record.id));
            return Ok(());
        }
        let reach = if references::is_flat(&record.labels) { Reach::Flat } else { Reach::Full };
        for named in lease_resource::of(from, namespace, &record.id)? {
            if let Some(node) = Node::leased(namespace, &named.r#type, &named.id) {
                graph.root(node, reach);
            }
        }
        Ok(())
    })
}

fn by_labels(graph: &mut Graph, id: Id, node: &Node, labels: &Labels) {
    for to in references::forward(labels) {
        graph.label(id, node.refers(to));
    }
    for by in references::back(labels) {
        graph.back(id, node.refers(by));
    }
}

/// What a node refers to now, by structure and by labels. Nothing if it has no record.
pub(crate) fn below(from: &impl Reader, node: &Node) -> Result<Vec<Node>, Status> {
    let namespace = &*node.namespace;
    let mut found = Vec::new();
    let labels = match &node.thing {
        Thing::Image(name) => image::get(from, namespace, name)?.map(|record| {
            found.extend(target(&record).map(|digest| Node::content(namespace, digest)));
            record.labels
        }),
        Thing::Content(digest) => content::get(from, namespace, digest)?.map(|record| record.labels),
        Thing::Snapshot { snapshotter, key } => {
            let place = Place { namespace: namespace.to_owned(), snapshotter: snapshotter.to_string() };
            snapshot::get(from, &place, key)?.map(|record| {
                if !record.parent.is_empty() {
                    found.push(Node::snapshot(namespace, snapshotter, &record.parent));
                }
                record.labels
            })
        }
    };
    found.extend(references::forward(&labels.unwrap_or_default()).map(|to| node.refers(to)));
    Ok(found)
}

pub(crate) fn is_expired(labels: &Labels, now: types::Time) -> bool {
    references::expiry(labels).is_some_and(|end| {
        let end: types::Time = std::time::SystemTime::from(end).into();
        (end.seconds, end.nanos) <= (now.seconds, now.nanos)
    })
}

/// Somebody works in it, or it says so itself. What a pull unpacks into is kept by the pull's lease alone.
pub(crate) fn is_root(record: &msg::Snapshot) -> bool {
    let in_use = matches!(record.kind(), Kind::Active | Kind::View) && !record.labels.contains_key(labels::UNPACKING);
    in_use || references::is_root(&record.labels)
}

fn target(image: &msg::Image) -> Option<Digest> {
    image.target.as_ref()?.digest.parse().ok()
}
