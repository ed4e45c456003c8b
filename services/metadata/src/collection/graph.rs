//! The graph of one mark, in memory: who refers to whom, and what is reached from the roots. Pure.
//!
//! Nodes are numbers here, so that a million references take a few megabytes. A node that is only referred to is known
//! too: it may come into being while the mark is in force.

use std::collections::HashMap;

use super::node::{Node, Thing};

/// A node of this graph.
pub(crate) type Id = u32;

/// How far a node was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Not at all.
    Garbage,
    /// Kept, and what its structure needs (a parent, a target); not what its labels say.
    Flat,
    /// Kept with all it refers to.
    Full,
}

/// What refers to what, and why the reached are reached.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    ids: HashMap<Node, Id>,
    nodes: Vec<Node>,
    /// Whether the node has a record, and not only its name in a reference.
    exists: Vec<bool>,
    reach: Vec<Reach>,
    /// Who reached it first; itself for roots.
    by: Vec<Id>,
    structure: Vec<(Id, Id)>,
    labels: Vec<(Id, Id)>,
    /// By the one that keeps: those that live as long as it.
    kept_by: HashMap<Id, Vec<Id>>,
    roots: Vec<(Id, Reach)>,
}

impl Graph {
    /// The number of a node, known or not.
    pub(crate) fn id(&mut self, node: Node) -> Id {
        if let Some(id) = self.ids.get(&node) {
            return *id;
        }
        let id = Id::try_from(self.nodes.len()).unwrap_or(Id::MAX);
        self.ids.insert(node.clone(), id);
        self.nodes.push(node);
        self.exists.push(false);
        self.reach.push(Reach::Garbage);
        self.by.push(id);
        id
    }

    /// The number of a known node.
    pub(crate) fn find(&self, node: &Node) -> Option<Id> {
        self.ids.get(node).copied()
    }

    pub(crate) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// A node with a record.
    pub(crate) fn record(&mut self, node: Node) -> Id {
        let id = self.id(node);
        if let Some(exists) = self.exists.get_mut(id as usize) {
            *exists = true;
        }
        id
    }

    /// The nodes with a record.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Id, &Node)> {
        (0_u32..).zip(&self.nodes).filter(|(id, _)| self.has_record(*id))
    }

    pub(crate) fn has_record(&self, id: Id) -> bool {
        self.exists.get(id as usize).copied().unwrap_or_default()
    }

    /// What a node refers to, by structure and by labels. Only after a mark.
    pub(crate) fn below(&self, id: Id) -> impl Iterator<Item = Id> {
        below(&self.structure, id).chain(below(&self.labels, id))
    }

    /// A reference by structure: an image to its target, a snapshot to its parent.
    pub(crate) fn structure(&mut self, from: Id, to: Node) {
        let to = self.id(to);
        self.structure.push((from, to));
    }

    /// A reference by label.
    pub(crate) fn label(&mut self, from: Id, to: Node) {
        let to = self.id(to);
        self.labels.push((from, to));
    }

    /// `kept` lives as long as `by`.
    pub(crate) fn back(&mut self, kept: Id, by: Node) {
        let by = self.id(by);
        self.kept_by.entry(by).or_default().push(kept);
    }

    /// Something that is kept by itself.
    pub(crate) fn root(&mut self, node: Node, reach: Reach) {
        let id = self.id(node);
        self.roots.push((id, reach));
    }

    /// Marks all that the roots reach.
    pub(crate) fn mark(&mut self) {
        self.structure.sort_unstable();
        self.labels.sort_unstable();
        let mut todo: Vec<Id> = Vec::new();
        for (id, reach) in std::mem::take(&mut self.roots) {
            if self.raise(id, reach, id) {
                todo.push(id);
            }
        }
        while let Some(id) = todo.pop() {
            let full = self.reached(id) == Reach::Full;
            let next = below(&self.structure, id)
                .chain(below(&self.labels, id).filter(|_| full))
                .chain(self.kept_by.get(&id).into_iter().flatten().copied().filter(|_| full));
            for to in next.collect::<Vec<_>>() {
                let reach = self.reached(id);
                if self.raise(to, reach, id) {
                    todo.push(to);
                }
            }
        }
    }

    /// Raises how far a node is reached; whether that is news.
    pub(crate) fn raise(&mut self, id: Id, reach: Reach, by: Id) -> bool {
        match self.reach.get_mut(id as usize) {
            Some(now) if *now < reach => {
                if *now == Reach::Garbage
                    && let Some(slot) = self.by.get_mut(id as usize)
                {
                    *slot = by;
                }
                *now = reach;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn reached(&self, id: Id) -> Reach {
        self.reach.get(id as usize).copied().unwrap_or(Reach::Full)
    }

    /// Those that live as long as this one.
    pub(crate) fn kept_by(&self, id: Id) -> Vec<Id> {
        self.kept_by.get(&id).cloned().unwrap_or_default()
    }

    /// From a root to this node; empty if nothing keeps it.
    pub(crate) fn path(&self, id: Id) -> Vec<Id> {
        if self.reached(id) == Reach::Garbage {
            return Vec::new();
        }
        let mut path = vec![id];
        let mut at = id;
        while let Some(by) = self.by.get(at as usize).copied().filter(|by| *by != at && path.len() <= self.nodes.len())
        {
            path.push(by);
            at = by;
        }
        path.reverse();
        path
    }

    /// What has a record and was not reached, in the order of a sweep: images, snapshots from the top down, content.
    pub(crate) fn garbage(&self) -> Vec<Id> {
        let mut found: Vec<Id> = (0_u32..)
            .zip(&self.exists)
            .filter_map(|(id, exists)| (*exists && self.reached(id) == Reach::Garbage).then_some(id))
            .collect();
        let depths = self.depths(&found);
        found.sort_by_cached_key(|id| {
            let deepest_first = std::cmp::Reverse(depths.get(id).copied().unwrap_or_default());
            let kind = self.node(*id).map(|node| match node.thing {
                Thing::Image(_) => 0,
                Thing::Snapshot { .. } => 1,
                Thing::Content(_) => 2,
            });
            (kind, deepest_first, *id)
        });
        found
    }

    /// How many snapshots of the garbage are below each of its snapshots.
    fn depths(&self, garbage: &[Id]) -> HashMap<Id, usize> {
        let is_snapshot = |id: &Id| self.node(*id).is_some_and(|node| matches!(node.thing, Thing::Snapshot { .. }));
        let mut depths: HashMap<Id, usize> = HashMap::new();
        for id in garbage.iter().copied().filter(is_snapshot) {
            let (mut chain, mut at) = (Vec::new(), Some(id));
            while let Some(here) = at.filter(|here| !depths.contains_key(here) && chain.len() <= self.nodes.len()) {
                chain.push(here);
                at = below(&self.structure, here).next();
            }
            let mut depth = at.and_then(|known| depths.get(&known).copied()).unwrap_or_default();
            for here in chain.into_iter().rev() {
                depth += 1;
                depths.insert(here, depth);
            }
        }
        depths
    }

    /// How many nodes there are with a record, and how many references.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.exists.iter().filter(|exists| **exists).count(), self.structure.len() + self.labels.len())
    }
}

/// The targets of one node in sorted edges.
fn below(edges: &[(Id, Id)], from: Id) -> impl Iterator<Item = Id> {
    let start = edges.partition_point(|(edge, _)| *edge < from);
    edges.get(start..).unwrap_or_default().iter().take_while(move |(edge, _)| *edge == from).map(|(_, to)| *to)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn snapshot(n: u8) -> Node {
        Node::snapshot("n", "o", &n.to_string())
    }

    #[test]
    fn a_flat_root_keeps_its_structure_only() {
        let mut graph = Graph::default();
        let (top, parent, labelled) = (graph.record(snapshot(3)), graph.record(snapshot(2)), graph.record(snapshot(1)));
        graph.structure(top, snapshot(2));
        graph.label(top, snapshot(1));
        graph.root(snapshot(3), Reach::Flat);
        graph.mark();
        assert_eq!([top, parent, labelled].map(|id| graph.reached(id)), [Reach::Flat, Reach::Flat, Reach::Garbage]);
        assert_eq!(graph.path(parent), [top, parent]);
        assert!(graph.path(labelled).is_empty());
        assert_eq!(graph.garbage(), [labelled]);
    }

    #[test]
    fn a_back_reference_keeps_with_what_it_names() {
        for alive in [true, false] {
            let mut graph = Graph::default();
            let kept = graph.record(snapshot(1));
            let named = graph.record(snapshot(2));
            graph.back(kept, snapshot(2));
            if alive {
                graph.root(snapshot(2), Reach::Full);
            }
            graph.mark();
            assert_eq!(graph.reached(kept) == Reach::Full, alive);
            assert_eq!(graph.reached(named) == Reach::Full, alive);
        }
    }

    #[test]
    fn what_stands_on_another_goes_first() {
        let mut graph = Graph::default();
        for (n, parent) in [(1, None), (2, Some(1)), (4, Some(3)), (3, Some(2))] {
            let id = graph.record(snapshot(n));
            if let Some(parent) = parent {
                graph.structure(id, snapshot(parent));
            }
        }
        graph.record(Node::image("n", "expired"));
        graph.mark();
        let order: Vec<String> = graph.garbage().into_iter().map(|id| graph.node(id).unwrap().to_string()).collect();
        assert_eq!(order, ["image expired", "snapshot o/4", "snapshot o/3", "snapshot o/2", "snapshot o/1"]);
    }

    proptest! {
        /// The same as walking the references one by one, whatever their shape.
        #[test]
        fn reaches_what_a_walk_reaches(
            edges in prop::collection::vec((0_u8..20, 0_u8..20), 0..60),
            backs in prop::collection::vec((0_u8..20, 0_u8..20), 0..10),
            roots in prop::collection::btree_set(0_u8..20, 0..4),
        ) {
            let mut graph = Graph::default();
            for n in 0..20 {
                graph.record(snapshot(n));
            }
            for (from, to) in &edges {
                let from = graph.id(snapshot(*from));
                graph.label(from, snapshot(*to));
            }
            for (kept, by) in &backs {
                let kept = graph.id(snapshot(*kept));
                graph.back(kept, snapshot(*by));
            }
            for root in &roots {
                graph.root(snapshot(*root), Reach::Full);
            }
            graph.mark();
            let mut reached: BTreeSet<u8> = roots;
            loop {
                let before = reached.len();
                let more = edges.iter().filter(|(from, _)| reached.contains(from)).map(|(_, to)| *to);
                let kept = backs.iter().filter(|(_, by)| reached.contains(by)).map(|(kept, _)| *kept);
                let more: HashSet<u8> = more.chain(kept).collect();
                reached.extend(more);
                if reached.len() == before {
                    break;
                }
            }
            for n in 0..20 {
                let id = graph.find(&snapshot(n)).unwrap();
                prop_assert_eq!(graph.reached(id) == Reach::Full, reached.contains(&n));
                prop_assert_eq!(graph.path(id).is_empty(), !reached.contains(&n));
            }
            prop_assert_eq!(graph.garbage().len(), 20 - reached.len());
        }
    }
}
