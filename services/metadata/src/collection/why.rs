//! The chain of references that keeps a thing.

use berth_kv::Reader;
use berth_model::{Digest, Status, references};
use berth_wire::{metadata as msg, types};
use msg::snapshot::Kind;

use super::{
    graph::Reach,
    node::{Node, Thing},
    scan,
};
use crate::{
    leases,
    snapshots::Place,
    tables::{container, content, image, lease, lease_resource, snapshot},
};

/// Why a node is kept: from a root down to it. An empty chain: nothing keeps it.
pub(crate) fn chain(from: &impl Reader, node: &Node, now: types::Time) -> Result<Vec<msg::Link>, Status> {
    let mut graph = scan::all(from, now)?.graph;
    graph.mark();
    let Some(id) = graph.find(node).filter(|id| graph.reached(*id) != Reach::Garbage) else { return Ok(Vec::new()) };
    let path: Vec<Node> = graph.path(id).into_iter().filter_map(|id| graph.node(id).cloned()).collect();
    let mut links = Vec::new();
    let mut above: Option<&Node> = None;
    for node in &path {
        let because = match above {
            None => of_root(from, node, now)?,
            Some(above) => of_reference(from, above, node)?,
        };
        links.push(link(node, because));
        above = Some(node);
    }
    Ok(links)
}

fn link(node: &Node, because: String) -> msg::Link {
    let (r#type, id) = match &node.thing {
        Thing::Image(name) => ("images".to_owned(), name.to_string()),
        Thing::Content(digest) => ("content".to_owned(), digest.to_string()),
        Thing::Snapshot { snapshotter, key } => (format!("snapshots/{snapshotter}"), key.to_string()),
    };
    msg::Link { r#type, id, because }
}

/// Whether there is a record of it.
pub(crate) fn exists(from: &impl Reader, node: &Node) -> Result<bool, Status> {
    let namespace = &*node.namespace;
    Ok(match &node.thing {
        Thing::Image(name) => image::get(from, namespace, name)?.is_some(),
        Thing::Content(digest) => content::get(from, namespace, digest)?.is_some(),
        Thing::Snapshot { snapshotter, key } => find(from, namespace, snapshotter, key)?.is_some(),
    })
}

/// Namespaces that record a digest.
pub(crate) fn namespaces_of(from: &impl Reader, digest: &Digest) -> Result<Vec<String>, Status> {
    content::namespaces(from, digest)
}

fn find(from: &impl Reader, namespace: &str, snapshotter: &str, key: &str) -> Result<Option<msg::Snapshot>, Status> {
    snapshot::get(from, &Place { namespace: namespace.to_owned(), snapshotter: snapshotter.to_owned() }, key)
}

fn of_root(from: &impl Reader, node: &Node, now: types::Time) -> Result<String, Status> {
    let namespace = &*node.namespace;
    let (resource, id) = match &node.thing {
        Thing::Image(name) => {
            let image = image::get(from, namespace, name)?;
            if image.is_some_and(|image| !scan::is_expired(&image.labels, now)) {
                return Ok("it is an image".to_owned());
            }
            ("images".to_owned(), name.to_string())
        }
        Thing::Content(digest) => {
            let record = content::get(from, namespace, digest)?;
            if record.is_some_and(|record| references::is_root(&record.labels)) {
                return Ok("label containerd.io/gc.root".to_owned());
            }
            ("content".to_owned(), digest.to_string())
        }
        Thing::Snapshot { snapshotter, key } => {
            if let Some(record) = find(from, namespace, snapshotter, key)?.filter(scan::is_root) {
                return Ok(match record.kind() {
                    Kind::Active => "it is active".to_owned(),
                    Kind::View => "it is a view".to_owned(),
                    _ => "label containerd.io/gc.root".to_owned(),
                });
            }
            (format!("snapshots/{snapshotter}"), key.to_string())
        }
    };
    for (_, lease_id) in lease_resource::holders(from, &resource, &id, Some(namespace))? {
        if let Some(lease) = lease::get(from, namespace, &lease_id)?.filter(|lease| !leases::is_over(lease, now)) {
            let until = lease.expires_at.map_or("its deletion".to_owned(), |end| end.to_string());
            return Ok(format!("lease {lease_id} until {until}"));
        }
    }
    let mut container = None;
    container::each(from, |found, record| {
        if found == namespace && Node::of_container(found, &record).contains(node) {
            container.get_or_insert(record.id);
        }
        Ok(())
    })?;
    Ok(container.map_or("it was a root a moment ago".to_owned(), |id| format!("container {id} needs it")))
}

fn of_reference(from: &impl Reader, above: &Node, node: &Node) -> Result<String, Status> {
    let namespace = &*above.namespace;
    let (labels, structure) = match &above.thing {
        Thing::Image(name) => (image::get(from, namespace, name)?.map(|record| record.labels), "target"),
        Thing::Content(digest) => (content::get(from, namespace, digest)?.map(|record| record.labels), "content"),
        Thing::Snapshot { snapshotter, key } => {
            (find(from, namespace, snapshotter, key)?.map(|record| record.labels), "parent")
        }
    };
    for (key, value) in labels.unwrap_or_default() {
        let one = [(key.clone(), value)].into();
        if references::forward(&one).any(|to| above.refers(to) == *node) {
            return Ok(format!("label {key} of {above}"));
        }
    }
    let backwards = match &node.thing {
        Thing::Image(name) => image::get(from, namespace, name)?.map(|record| record.labels),
        Thing::Content(digest) => content::get(from, namespace, digest)?.map(|record| record.labels),
        Thing::Snapshot { snapshotter, key } => find(from, namespace, snapshotter, key)?.map(|record| record.labels),
    };
    for (key, value) in backwards.unwrap_or_default() {
        let one = [(key.clone(), value)].into();
        if references::back(&one).any(|by| node.refers(by) == *above) {
            return Ok(format!("its label {key} names {above}"));
        }
    }
    Ok(format!("{structure} of {above}"))
}
