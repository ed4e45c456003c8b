//! What each image keeps by itself, and what it shares.

use std::collections::{BTreeMap, HashMap, HashSet};

use berth_kv::Reader;
use berth_model::{Digest, Status};
use berth_wire::{metadata as msg, types};

use super::{
    graph::{Graph, Id},
    node::{Node, Thing},
    scan,
};
use crate::{
    snapshots::Place,
    tables::{content, snapshot},
};

/// Over all images, each thing once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) images: u64,
    pub(crate) content: u64,
    pub(crate) snapshots: u64,
}

/// Bytes are shared by digest, whatever the namespace; snapshots are of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bytes {
    Blob(Digest),
    Snapshot(Node),
}

/// By namespace and name.
pub(crate) type Measures = BTreeMap<(String, String), msg::ImageMeasure>;

/// Measures all images of all namespaces.
pub(crate) fn of_images(from: &impl Reader, now: types::Time) -> Result<(Measures, Totals), Status> {
    let mut graph = scan::all(from, now)?.graph;
    graph.mark();
    let images: Vec<(Id, String, String)> = graph
        .records()
        .filter_map(|(id, node)| match &node.thing {
            Thing::Image(name) => Some((id, node.namespace.to_string(), name.to_string())),
            _ => None,
        })
        .collect();
    let mut sizes: HashMap<Bytes, (u64, u32)> = HashMap::new();
    for (id, _, _) in &images {
        for bytes in kept(&graph, *id) {
            match sizes.get_mut(&bytes) {
                Some((_, images)) => *images += 1,
                None => {
                    let size = size(from, &graph, *id, &bytes)?;
                    sizes.insert(bytes, (size, 1));
                }
            }
        }
    }
    let mut totals = Totals { images: u64::try_from(images.len()).unwrap_or(u64::MAX), ..Totals::default() };
    for (bytes, (size, _)) in &sizes {
        match bytes {
            Bytes::Blob(_) => totals.content += size,
            Bytes::Snapshot(_) => totals.snapshots += size,
        }
    }
    let mut measures = Measures::new();
    for (id, namespace, name) in images {
        let mut measure =
            msg::ImageMeasure { namespace: namespace.clone(), name: name.clone(), ..msg::ImageMeasure::default() };
        for bytes in kept(&graph, id) {
            let (size, images) = sizes.get(&bytes).copied().unwrap_or_default();
            *match (bytes, images) {
                (Bytes::Blob(_), 1) => &mut measure.content_unique,
                (Bytes::Blob(_), _) => &mut measure.content_shared,
                (Bytes::Snapshot(_), 1) => &mut measure.snapshots_unique,
                (Bytes::Snapshot(_), _) => &mut measure.snapshots_shared,
            } += size;
        }
        measures.insert((namespace, name), measure);
    }
    Ok((measures, totals))
}

/// What an image refers to, over any number of steps.
fn kept(graph: &Graph, image: Id) -> HashSet<Bytes> {
    let (mut seen, mut todo, mut found) = (HashSet::from([image]), vec![image], HashSet::new());
    while let Some(id) = todo.pop() {
        if let Some(node) = graph.node(id).filter(|_| graph.has_record(id)) {
            match &node.thing {
                Thing::Content(digest) => drop(found.insert(Bytes::Blob(*digest))),
                Thing::Snapshot { .. } => drop(found.insert(Bytes::Snapshot(node.clone()))),
                Thing::Image(_) => {}
            }
        }
        todo.extend(graph.below(id).filter(|next| seen.insert(*next)));
    }
    found
}

fn size(from: &impl Reader, graph: &Graph, image: Id, bytes: &Bytes) -> Result<u64, Status> {
    match bytes {
        Bytes::Blob(digest) => {
            let namespace = graph.node(image).map(|node| node.namespace.to_string()).unwrap_or_default();
            Ok(content::get(from, &namespace, digest)?.map_or(0, |record| record.size))
        }
        Bytes::Snapshot(node) => {
            let Thing::Snapshot { snapshotter, key } = &node.thing else { return Ok(0) };
            let place = Place { namespace: node.namespace.to_string(), snapshotter: snapshotter.to_string() };
            let usage = snapshot::get(from, &place, key)?.and_then(|record| record.usage);
            Ok(usage.map_or(0, |usage| usage.size))
        }
    }
}
