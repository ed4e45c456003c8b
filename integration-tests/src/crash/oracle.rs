//! What was promised: for each image, content record and snapshot of each namespace, whether it must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    catalog::{Catalog, Stored},
    look::Shown,
    register::{Change, Register},
};

/// The namespaces of a run. They share bytes and nothing else.
pub(super) const NAMESPACES: &[&str] = &["default", "other"];

/// Something that is there or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Image(String),
    Content(String),
    Snapshot(String),
}

/// A command.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// An image, by its number in the catalog; with its snapshots or without.
    Pull(usize, bool),
    Remove(Thing),
    Collect,
}

/// A command that was given, and how it ended.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) namespace: &'static str,
    pub(super) wish: Wish,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) acknowledged: bool,
    /// It failed while nobody had an accident.
    pub(super) refused: Option<String>,
}

#[derive(Default)]
pub(super) struct Oracle {
    things: BTreeMap<(&'static str, Thing), Register>,
    /// Pulls of this round.
    pulls: Vec<(Done, usize, bool)>,
    /// Images that are there and keep their snapshots, by their numbers.
    unpacked: BTreeSet<(&'static str, usize)>,
}

impl Oracle {
    /// Takes in a command and how it ended.
    pub(super) fn hear(&mut self, catalog: &Catalog, done: &Done) {
        let mut tried = |thing: Thing, to: bool| {
            let change = Change { begin: done.begin, end: done.end, to, sure: done.acknowledged };
            self.things.entry((done.namespace, thing)).or_default().changes.push(change);
        };
        match &done.wish {
            Wish::Collect => {}
            Wish::Remove(thing) => tried(thing.clone(), false),
            Wish::Pull(number, unpack) => {
                for thing in left_by(catalog, *number, *unpack) {
                    tried(thing, true);
                }
                self.pulls.push((done.clone(), *number, *unpack));
            }
        }
    }

    /// What in this namespace is not as it must be.
    pub(super) fn broken_promises(&mut self, catalog: &Catalog, namespace: &'static str, shown: &Shown) -> Vec<String> {
        self.believe_records(catalog, namespace, shown);
        let mut broken = Vec::new();
        for ((_, thing), register) in self.things.iter().filter(|((of, _), _)| *of == namespace) {
            let there = is_there(shown, thing);
            // What nothing refers to may be collected at any time.
            let collected = !there && !matches!(thing, Thing::Image(_)) && !self.is_kept(catalog, namespace, thing);
            if !register.may_be(there) && !collected {
                let word = if there { "is there, and was deleted" } else { "is gone, and was acknowledged" };
                broken.push(format!("{namespace}: {thing:?} {word}: {register:?}"));
            }
        }
        for thing in all(shown).into_iter().filter(|thing| is_there(shown, thing)) {
            if !self.things.contains_key(&(namespace, thing.clone())) {
                broken.push(format!("{namespace}: {thing:?} is there, and nobody asked for it"));
            }
        }
        broken
    }

    /// Whether some image refers to it all the time since it was there for sure.
    fn is_kept(&self, catalog: &Catalog, namespace: &'static str, thing: &Thing) -> bool {
        let is_snapshot = matches!(thing, Thing::Snapshot(_));
        catalog.images.iter().enumerate().any(|(number, image)| {
            if !left_by(catalog, number, true).contains(thing) {
                return false;
            }
            let since_before = self.stands(namespace, image, is_snapshot, 0)
                && self.register(namespace, &Thing::Image(image.reference.clone())).before
                && (!is_snapshot || self.unpacked.contains(&(namespace, number)));
            since_before
                || self.pulls_of(namespace, number).any(|(done, unpack)| {
                    (unpack || !is_snapshot)
                        && self.is_sure(image, done)
                        && self.stands(namespace, image, is_snapshot, done.begin)
                })
        })
    }

    /// Whether nobody removed the image, or something through which it refers to the rest, after that tick: its documents,
    /// and for snapshots those above, by which the ones below are kept.
    fn stands(&self, namespace: &'static str, image: &Stored, is_snapshot: bool, tick: u64) -> bool {
        let documents = image.documents.iter().cloned().map(Thing::Content);
        let chain = image.chain.iter().filter(|_| is_snapshot).cloned().map(Thing::Snapshot);
        documents.chain(chain).chain([Thing::Image(image.reference.clone())]).all(|thing| {
            let register = self.register(namespace, &thing);
            (tick > 0 || register.before) && !register.changes.iter().any(|change| !change.to && change.end > tick)
        })
    }

    fn register(&self, namespace: &'static str, thing: &Thing) -> Register {
        self.things.get(&(namespace, thing.clone())).cloned().unwrap_or_default()
    }

    fn pulls_of(&self, namespace: &str, number: usize) -> impl Iterator<Item = (&Done, bool)> {
        let of = move |pull: &&(Done, usize, bool)| pull.0.namespace == namespace && pull.1 == number;
        self.pulls.iter().filter(of).map(|(done, _, unpack)| (done, *unpack))
    }

    /// Whether a pull was acknowledged, or left its record.
    fn is_sure(&self, image: &Stored, done: &Done) -> bool {
        let register = self.register(done.namespace, &Thing::Image(image.reference.clone()));
        register.changes.iter().any(|change| change.begin == done.begin && change.sure)
    }

    /// An image record that is there is as good as an acknowledgement, for it is the last thing that a pull writes.
    fn believe_records(&mut self, catalog: &Catalog, namespace: &'static str, shown: &Shown) {
        let here = self.pulls.iter().filter(|(done, ..)| done.namespace == namespace);
        for (done, number, unpack) in here {
            let Some(image) = catalog.images.get(*number) else { continue };
            let thing = (namespace, Thing::Image(image.reference.clone()));
            let new = self.things.get(&thing).is_some_and(|register| !register.before);
            // Which of several it was cannot be told.
            let only =
                self.pulls.iter().filter(|(other, of, _)| other.namespace == namespace && of == number).count() == 1;
            if !(new && only && shown.images.contains(&image.reference)) {
                continue;
            }
            for thing in left_by(catalog, *number, *unpack) {
                if let Some(register) = self.things.get_mut(&(namespace, thing)) {
                    for change in register.changes.iter_mut().filter(|change| change.begin == done.begin) {
                        change.sure = true;
                    }
                }
            }
        }
    }

    /// What was looked at is the beginning of the next round.
    pub(super) fn settle(&mut self, catalog: &Catalog, namespace: &'static str, shown: &Shown) {
        for (number, image) in catalog.images.iter().enumerate() {
            // Its top snapshot is as good as any: the others go after it.
            let top = image.chain.last().cloned().unwrap_or_default();
            if shown.images.contains(&image.reference) && self.is_kept(catalog, namespace, &Thing::Snapshot(top)) {
                self.unpacked.insert((namespace, number));
            } else {
                self.unpacked.remove(&(namespace, number));
            }
        }
        self.pulls.retain(|(done, ..)| done.namespace != namespace);
        for thing in all(shown) {
            self.things.entry((namespace, thing)).or_default();
        }
        for ((of, thing), register) in &mut self.things {
            if *of == namespace {
                register.settle(is_there(shown, thing));
            }
        }
    }
}

/// What a pull leaves.
fn left_by(catalog: &Catalog, number: usize, unpack: bool) -> Vec<Thing> {
    let Some(image) = catalog.images.get(number) else { return Vec::new() };
    let mut things = vec![Thing::Image(image.reference.clone())];
    things.extend(image.digests.iter().cloned().map(Thing::Content));
    if unpack {
        things.extend(image.chain.iter().cloned().map(Thing::Snapshot));
    }
    things
}

fn is_there(shown: &Shown, thing: &Thing) -> bool {
    match thing {
        Thing::Image(name) => shown.images.contains(name),
        Thing::Content(digest) => shown.content.contains(digest),
        Thing::Snapshot(name) => shown.snapshots.get(name).is_some_and(|snapshot| snapshot.committed),
    }
}

fn all(shown: &Shown) -> Vec<Thing> {
    let images = shown.images.iter().cloned().map(Thing::Image);
    let content = shown.content.iter().cloned().map(Thing::Content);
    images.chain(content).chain(shown.snapshots.keys().cloned().map(Thing::Snapshot)).collect()
}
