//! What was promised: for each image, content record and snapshot of each namespace, whether it must be there.

use std::collections::BTreeMap;

use super::{
    catalog::Catalog,
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
}

impl Oracle {
    /// Takes in a command and how it ended.
    pub(super) fn hear(&mut self, catalog: &Catalog, done: &Done) {
        let mut tried = |thing: Thing, to: bool| {
            let change = Change { begin: done.begin, end: done.end, to, sure: done.acknowledged };
            self.things.entry((done.namespace, thing)).or_default().changes.push(change);
        };
        match &done.wish {
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
            if !register.may_be(there) {
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

    /// An image record that is there is as good as an acknowledgement, for it is the last thing that a pull writes.
    fn believe_records(&mut self, catalog: &Catalog, namespace: &'static str, shown: &Shown) {
        for (done, number, unpack) in self.pulls.iter().filter(|(done, ..)| done.namespace == namespace) {
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
    pub(super) fn settle(&mut self, namespace: &'static str, shown: &Shown) {
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
