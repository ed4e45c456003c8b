//! What a stack of layers means, in the simplest words there are: a map from names to entries, layer after layer.
//!
//! The rules are the image specification's (`layer.md`): a layer's whiteouts and opaque markers speak of the layers below
//! only, wherever in the archive they stand; then its entries are put over what is left. A directory put over a directory
//! changes that one, everything else replaces.

use std::collections::BTreeMap;

use berth_testing::tree::{Entry, Tree};
use sha2::{Digest as _, Sha256};

use crate::{archive::Item, layer::Layer};

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
    pub(crate) inode: u64,
}

impl Node {
    /// A directory that somebody passes through.
    pub(crate) fn implied() -> Self {
        Self { kind: Kind::Dir, mode: 0o755, owner: (0, 0), mtime: None, inode: 0 }
    }

    pub(crate) fn item(&self, path: &str) -> Item {
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
    pub(crate) tree: BTreeMap<String, Node>,
    pub(crate) last_inode: u64,
}

impl Model {
    /// Puts a layer on top; what makes no sense is left out. Answers the layer's archive.
    pub(crate) fn put(&mut self, wishes: &[(String, Wish)]) -> Vec<Item> {
        let mut layer = Layer::on(self);
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
