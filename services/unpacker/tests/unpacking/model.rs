//! What a stack of layers means, in the simplest words there are: a map from names to entries, layer after layer.
//!
//! The rules are the image specification's (`layer.md`): a layer's whiteouts and opaque markers speak of the layers below
//! only, wherever in the archive they stand; then its entries are put over what is left. A directory put over a directory
//! changes that one, everything else replaces.

use std::collections::{BTreeMap, BTreeSet};

use berth_testing::tree::{Entry, Tree};
use sha2::{Digest as _, Sha256};

use crate::archive::Item;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File(Vec<u8>),
    Symlink(String),
    Fifo,
    Char(u32, u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// `None`: nobody said.
    pub(crate) mtime: Option<u64>,
    /// Names with the same number are one file.
    inode: u64,
}

impl Node {
    /// A directory that somebody passes through.
    fn implied() -> Self {
        Self { kind: Kind::Dir, mode: 0o755, owner: (0, 0), mtime: None, inode: 0 }
    }

    fn item(&self, path: &str) -> Item {
        let item = match &self.kind {
            Kind::Dir => Item::dir(path),
            Kind::File(body) => Item::file(path, body.clone()),
            Kind::Symlink(target) => Item::symlink(path, target),
            Kind::Fifo => Item::fifo(path),
            Kind::Char(major, minor) => Item::device(tar::EntryType::Char, path, *major, *minor),
        };
        item.mode(self.mode).owner(self.owner.0.into(), self.owner.1.into()).mtime(self.mtime.unwrap_or_default())
    }
}

/// What a layer may ask for.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Make(Node),
    /// A hard link to one of the files there are, by its place in their list.
    Link(usize),
    Whiteout,
    Opaque,
}

/// Makes a node; its number comes when it is put somewhere.
pub(crate) fn node(kind: Kind, mode: u32, owner: (u32, u32), mtime: u64) -> Node {
    Node { kind, mode, owner, mtime: Some(mtime), inode: 0 }
}

/// What has been made of the stack so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    tree: BTreeMap<String, Node>,
    last_inode: u64,
}

/// What a layer has at a name.
#[derive(Clone, Debug)]
enum Own {
    /// It says what it is.
    Said(Node),
    /// A directory it only passes through.
    Implied,
}

/// A layer in the making.
struct Layer<'a> {
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
    items: Vec<Item>,
    last_inode: u64,
}

/// The directories above a name, from the top.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

impl Model {
    /// Puts a layer on top; what makes no sense is left out. Answers the layer's archive.
    pub(crate) fn put(&mut self, wishes: &[(String, Wish)]) -> Vec<Item> {
        let mut layer = Layer {
            below: self,
            own: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            renewed: BTreeSet::new(),
            linked: BTreeMap::new(),
            items: Vec::new(),
            last_inode: self.last_inode,
        };
        for (path, wish) in wishes {
            layer.wish(path, wish);
        }
        let (tree, items, last_inode) = (layer.merged(), layer.items, layer.last_inode);
        *self = Self { tree, last_inode };
        items
    }

    /// As a mounted tree is read, with times that nobody said as they were found.
    pub(crate) fn expected(&self, found: &Tree) -> Tree {
        let mut names: BTreeMap<u64, Vec<&String>> = BTreeMap::new();
        for (path, node) in self.tree.iter().filter(|(_, node)| node.kind != Kind::Dir) {
            names.entry(node.inode).or_default().push(path);
        }
        let entry = |path: &String, node: &Node| {
            let (word, body, target, device) = match &node.kind {
                Kind::Dir => ("dir", None, None, None),
                Kind::File(body) => ("file", Some(body), None, None),
                Kind::Symlink(target) => ("symlink", None, Some(target.into()), None),
                Kind::Fifo => ("fifo", None, None, None),
                Kind::Char(major, minor) => ("char", None, None, Some((*major, *minor))),
            };
            let as_found = found.get(std::path::Path::new(path)).map_or((0, 0), |found| found.mtime);
            let said = node.mtime.map(|mtime| (i64::try_from(mtime).unwrap(), 0));
            let first = names.get(&node.inode).map(|names| names[0]).filter(|first| *first != path);
            Entry {
                kind: word,
                mode: if word == "symlink" { 0o777 } else { node.mode },
                uid: node.owner.0,
                gid: node.owner.1,
                size: body.map_or(0, |body| body.len() as u64),
                content: body.map(|body| hex(&Sha256::digest(body))),
                target,
                device,
                mtime: said.unwrap_or(as_found),
                xattrs: BTreeMap::new(),
                same_as: first.filter(|_| node.kind != Kind::Dir).map(Into::into),
            }
        };
        self.tree.iter().map(|(path, node)| (path.into(), entry(path, node))).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Layer<'_> {
    fn wish(&mut self, path: &str, wish: &Wish) {
        if !self.can_reach(path) {
            return;
        }
        match wish {
            Wish::Make(node) => self.make(path, node),
            Wish::Link(pick) => self.link(path, *pick),
            Wish::Whiteout => self.whiteout(path),
            Wish::Opaque => self.opaque(path),
        }
    }

    /// Whether all above is a directory, here, or is none that would be followed elsewhere.
    fn can_reach(&self, path: &str) -> bool {
        above(path).all(|dir| match self.own.get(dir) {
            Some(Own::Said(node)) => node.kind == Kind::Dir,
            Some(Own::Implied) => true,
            None => !self.is_link_below(dir) && !self.linked.contains_key(dir),
        })
    }

    fn is_link_below(&self, path: &str) -> bool {
        self.below.tree.get(path).is_some_and(|node| matches!(node.kind, Kind::Symlink(_)))
    }

    /// Whether what was linked to would go with this.
    fn would_lose(&self, path: &str, and_itself: bool) -> bool {
        self.linked.keys().any(|linked| is_below(linked, path) || (and_itself && linked == path))
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

    fn make(&mut self, path: &str, node: &Node) {
        let is_dir = node.kind == Kind::Dir;
        let fits = match self.own.get(path) {
            None => true,
            Some(Own::Implied) => is_dir,
            Some(Own::Said(_)) => false,
        };
        if !fits || self.would_lose(path, true) && !is_dir || self.linked.contains_key(path) {
            return;
        }
        self.pass_through(path);
        if self.whiteouts.remove(path) && is_dir {
            self.opaque.insert(path.to_owned());
        }
        self.last_inode += 1;
        self.own.insert(path.to_owned(), Own::Said(Node { inode: self.last_inode, ..node.clone() }));
        self.items.push(node.item(path));
    }

    fn link(&mut self, path: &str, pick: usize) {
        if self.own.contains_key(path) || self.would_lose(path, true) {
            return;
        }
        let own = self.own.iter().filter_map(|(name, own)| match own {
            Own::Said(node) if node.kind != Kind::Dir => Some((name.clone(), node.clone())),
            _ => None,
        });
        let below = self.below.tree.iter().filter(|(name, node)| {
            node.kind != Kind::Dir && !self.own.contains_key(*name) && self.shows(name) && name.as_str() != path
        });
        let below = below.filter(|(name, _)| !is_below(name, path) && !is_below(path, name));
        let all: Vec<(String, Node)> = own.chain(below.map(|(name, node)| (name.clone(), node.clone()))).collect();
        let Some((target, node)) = all.get(pick % all.len().max(1)).cloned() else { return };
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
        self.items.push(Item::hard_link(path, &target));
    }

    fn whiteout(&mut self, path: &str) {
        if self.would_lose(path, true) {
            return;
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
        self.items.push(Item::whiteout(path));
    }

    fn opaque(&mut self, path: &str) {
        let reachable = match self.own.get(path) {
            Some(Own::Said(node)) => node.kind == Kind::Dir,
            Some(Own::Implied) => true,
            None => !self.is_link_below(path) && !self.linked.contains_key(path),
        };
        if !reachable || self.would_lose(path, false) {
            return;
        }
        self.pass_through(path);
        self.pass(path);
        self.opaque.insert(path.to_owned());
        self.items.push(Item::opaque(path));
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

    fn merged(&self) -> BTreeMap<String, Node> {
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
