//! One layer of the model in the making: what it has said so far, and what that hides of the layers below.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    archive::Item,
    model::{Kind, Model, Node, Wish},
};

/// What a layer has at a name.
#[derive(Clone, Debug)]
enum Own {
    /// It says what it is.
    Said(Node),
    /// A directory it only passes through.
    Implied,
}

/// A layer in the making.
pub(crate) struct Layer<'a> {
    below: &'a Model,
    own: BTreeMap<String, Own>,
    /// Names of the layers below that are gone, with all that is below them.
    whiteouts: BTreeSet<String>,
    /// Directories of which all that the layers below have in them is gone.
    opaque: BTreeSet<String>,
    /// Directories that were removed, although the layer passes through them: they are new.
    renewed: BTreeSet<String>,
    /// Files of the layers below that got another name here: they stay, with a number of their own.
    linked: BTreeMap<String, u64>,
    /// Links of the layers below that the layer's names went through: they stay too.
    followed: BTreeSet<String>,
    /// Where the last of such links of each name led.
    led: BTreeMap<String, BTreeSet<String>>,
    pub(crate) items: Vec<Item>,
    pub(crate) last_inode: u64,
}

/// The directories above a name, from the top.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

impl<'a> Layer<'a> {
    /// One that has said nothing.
    pub(crate) fn on(below: &'a Model) -> Self {
        Self {
            below,
            own: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            renewed: BTreeSet::new(),
            linked: BTreeMap::new(),
            followed: BTreeSet::new(),
            led: BTreeMap::new(),
            items: Vec::new(),
            last_inode: below.last_inode,
        }
    }

    /// Adds what makes sense.
    pub(crate) fn wish(&mut self, path: &str, wish: &Wish) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut through = BTreeSet::new();
        let followed = if matches!(wish, Wish::Opaque) { path } else { above };
        let Some(real) = self.real(followed, &mut through) else { return };
        let real = match wish {
            Wish::Opaque if real.is_empty() => return,
            Wish::Opaque => real,
            _ if real.is_empty() => name.to_owned(),
            _ => format!("{real}/{name}"),
        };
        if !self.has_one_name(&real, &through) {
            return;
        }
        let led = real.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
        let made = match wish {
            Wish::Make(node) => self.make(&real, path, node),
            Wish::Link(pick) => self.link(&real, path, *pick, &through),
            Wish::Whiteout => self.whiteout(&real, path),
            Wish::Opaque => self.opaque(&real, path),
        };
        if made && !through.is_empty() {
            self.led.insert(if matches!(wish, Wish::Opaque) { real } else { led }, through.clone());
            self.followed.extend(through);
        }
    }

    /// A layer that is unpacked without seeing those below cannot know that two of its names mean one place, and what
    /// it says of the one is put over what it says of the other: layers here do not do that.
    fn has_one_name(&self, path: &str, through: &BTreeSet<String>) -> bool {
        let meets = |other: &str| other == path || is_below(path, other) || is_below(other, path) || other.is_empty();
        if through.is_empty() {
            return !self.led.keys().any(|led| meets(led));
        }
        let replaces = |place: &str| self.below.tree.get(place).is_some_and(|node| node.kind != Kind::Dir);
        let said = self.own.iter().filter(|(place, own)| matches!(own, Own::Said(_)) || replaces(place));
        let mut said = said.map(|(place, _)| place);
        let spoken = said.any(|place| meets(place))
            || self.whiteouts.iter().chain(&self.opaque).chain(self.linked.keys()).any(|place| meets(place));
        // Nor does what is reached through a link take that link's place.
        let itself = through.iter().any(|link| link == path || is_below(link, path));
        !spoken && !itself && self.led.iter().all(|(led, links)| !meets(led) || links == through)
    }

    /// Where a directory really is, its links followed, as they are here and now; `None`: there can be none.
    fn real(&self, path: &str, through: &mut BTreeSet<String>) -> Option<String> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut here: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here.pop();
                    continue;
                }
                _ => here.push(part),
            }
            let place = here.join("/");
            let target = match self.own.get(&place) {
                Some(Own::Said(Node { kind: Kind::Dir, .. }) | Own::Implied) => continue,
                // Another name of a link below: it comes when that one is known.
                Some(Own::Said(node)) if self.linked.values().any(|inode| *inode == node.inode) => return None,
                // The layer's own after one below: those below are followed when this one is not there yet.
                Some(Own::Said(Node { kind: Kind::Symlink(_), .. })) if !through.is_empty() => return None,
                Some(Own::Said(Node { kind: Kind::Symlink(target), .. })) => target,
                Some(Own::Said(_)) => return None,
                None if self.linked.contains_key(&place) => return None,
                None => match self.below.tree.get(&place).filter(|_| self.shows(&place)) {
                    Some(Node { kind: Kind::Symlink(target), .. }) => {
                        through.insert(place);
                        target
                    }
                    // A link to what is no directory leads nowhere.
                    Some(node) if links > 0 && node.kind != Kind::Dir => return None,
                    _ => continue,
                },
            };
            links += 1;
            if links > 8 {
                return None;
            }
            here.pop();
            if target.starts_with('/') {
                here.clear();
            }
            todo.extend(target.split('/').rev().map(str::to_owned));
        }
        Some(here.join("/"))
    }

    /// Whether what was linked to, or gone through, would go with this.
    fn would_lose(&self, path: &str, and_itself: bool) -> bool {
        let mut kept = self.linked.keys().chain(&self.followed);
        kept.any(|kept| is_below(kept, path) || (and_itself && kept == path))
    }

    fn pass_through(&mut self, path: &str) {
        for dir in above(path) {
            self.pass(dir);
        }
    }

    /// A directory that comes where something was removed has nothing of it.
    fn pass(&mut self, dir: &str) {
        if !self.own.contains_key(dir) {
            if self.whiteouts.remove(dir) {
                self.opaque.insert(dir.to_owned());
                self.renewed.insert(dir.to_owned());
            }
            self.own.insert(dir.to_owned(), Own::Implied);
        }
    }

    fn make(&mut self, path: &str, name: &str, node: &Node) -> bool {
        let is_dir = node.kind == Kind::Dir;
        let fits = match self.own.get(path) {
            None => true,
            Some(Own::Implied) => is_dir,
            Some(Own::Said(_)) => false,
        };
        if !fits || self.would_lose(path, !is_dir) && !is_dir || self.keeps(path) {
            return false;
        }
        self.pass_through(path);
        if self.whiteouts.remove(path) && is_dir {
            self.opaque.insert(path.to_owned());
        }
        self.last_inode += 1;
        self.own.insert(path.to_owned(), Own::Said(Node { inode: self.last_inode, ..node.clone() }));
        self.items.push(node.item(name));
        true
    }

    fn link(&mut self, path: &str, as_named: &str, pick: usize, through: &BTreeSet<String>) -> bool {
        if self.own.contains_key(path) || self.would_lose(path, true) {
            return false;
        }
        let own = self.own.iter().filter_map(|(name, own)| match own {
            Own::Said(node) if node.kind != Kind::Dir => Some((name.clone(), node.clone())),
            _ => None,
        });
        let below = self.below.tree.iter().filter(|(name, node)| {
            node.kind != Kind::Dir && !self.own.contains_key(*name) && self.shows(name) && name.as_str() != path
        });
        let below = below.filter(|(name, _)| !is_below(name, path) && !is_below(path, name));
        // A link that is gone through is a directory to the layer.
        let below = below.filter(|(name, _)| !through.contains(*name) && !self.followed.contains(*name));
        let all: Vec<(String, Node)> = own.chain(below.map(|(name, node)| (name.clone(), node.clone()))).collect();
        let Some((target, node)) = all.get(pick % all.len().max(1)).cloned() else { return false };
        let inode = if self.own.contains_key(&target) {
            node.inode
        } else {
            let fresh = self.last_inode + 1;
            let inode = *self.linked.entry(target.clone()).or_insert(fresh);
            self.last_inode = self.last_inode.max(inode);
            inode
        };
        self.pass_through(path);
        self.whiteouts.remove(path);
        self.own.insert(path.to_owned(), Own::Said(Node { inode, ..node }));
        self.items.push(Item::hard_link(as_named, &target));
        true
    }

    fn whiteout(&mut self, path: &str, name: &str) -> bool {
        if self.would_lose(path, true) {
            return false;
        }
        self.pass_through(path);
        match self.own.get(path) {
            None => {
                self.whiteouts.insert(path.to_owned());
            }
            Some(Own::Implied) => {
                self.opaque.insert(path.to_owned());
                self.renewed.insert(path.to_owned());
            }
            Some(Own::Said(node)) if node.kind == Kind::Dir => {
                self.opaque.insert(path.to_owned());
            }
            Some(Own::Said(_)) => {}
        }
        self.items.push(Item::whiteout(name));
        true
    }

    fn opaque(&mut self, path: &str, name: &str) -> bool {
        if self.would_lose(path, false) {
            return false;
        }
        self.pass_through(path);
        self.pass(path);
        self.opaque.insert(path.to_owned());
        self.items.push(Item::opaque(name));
        true
    }

    /// Whether it must stay as it is.
    fn keeps(&self, path: &str) -> bool {
        self.linked.contains_key(path) || self.followed.contains(path)
    }

    /// Whether an entry of the layers below is still seen.
    fn shows(&self, path: &str) -> bool {
        let over = |dir: &str| match self.own.get(dir) {
            Some(Own::Said(node)) => node.kind != Kind::Dir,
            _ => false,
        };
        let gone = |dir: &str| self.whiteouts.contains(dir) || over(dir);
        !gone(path) && !above(path).any(|dir| gone(dir) || self.opaque.contains(dir))
    }

    /// What is seen with the layer on top.
    pub(crate) fn merged(&self) -> BTreeMap<String, Node> {
        let mut tree: BTreeMap<String, Node> = self
            .below
            .tree
            .iter()
            .filter(|(path, _)| self.shows(path))
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        for (path, own) in &self.own {
            match own {
                Own::Said(node) => {
                    tree.insert(path.clone(), node.clone());
                }
                Own::Implied => {
                    let is_there = tree.get(path).is_some_and(|node| node.kind == Kind::Dir);
                    if !is_there || self.renewed.contains(path) {
                        tree.insert(path.clone(), Node::implied());
                    }
                }
            }
        }
        for (path, inode) in &self.linked {
            tree.get_mut(path).unwrap().inode = *inode;
        }
        tree
    }
}
