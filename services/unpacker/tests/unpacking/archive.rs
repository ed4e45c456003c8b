//! Archives written entry by entry, their names and links as they are: absolute, with `..`, whatever.

use tar::{EntryType, Header};

/// One entry of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    kind: EntryType,
    path: String,
    link: String,
    body: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    device: (u32, u32),
    pax: Vec<(String, Vec<u8>)>,
}

impl Item {
    fn new(kind: EntryType, path: &str, mode: u32) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            link: String::new(),
            body: Vec::new(),
            mode,
            owner: (0, 0),
            mtime: 1_700_000_000,
            device: (0, 0),
            pax: Vec::new(),
        }
    }

    pub(crate) fn file(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(EntryType::Regular, path, 0o644) }
    }

    pub(crate) fn dir(path: &str) -> Self {
        Self::new(EntryType::Directory, path, 0o755)
    }

    pub(crate) fn symlink(path: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(EntryType::Symlink, path, 0o777) }
    }

    pub(crate) fn hard_link(path: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(EntryType::Link, path, 0o644) }
    }

    pub(crate) fn device(kind: EntryType, path: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(kind, path, 0o600) }
    }

    pub(crate) fn fifo(path: &str) -> Self {
        Self::new(EntryType::Fifo, path, 0o600)
    }

    /// Removes what lower layers have at the path.
    pub(crate) fn whiteout(path: &str) -> Self {
        match path.rsplit_once('/') {
            Some((parent, name)) => Self::file(&format!("{parent}/.wh.{name}"), ""),
            None => Self::file(&format!(".wh.{path}"), ""),
        }
    }

    /// Hides what lower layers have in the directory.
    pub(crate) fn opaque(path: &str) -> Self {
        Self::file(&format!("{path}/.wh..wh..opq"), "")
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    pub(crate) fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    pub(crate) fn pax(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.pax.push((key.to_owned(), value.into()));
        self
    }

    fn append(&self, tar: &mut tar::Builder<Vec<u8>>) {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_size(self.body.len() as u64);
        header.set_mtime(self.mtime);
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(self.device.0).unwrap();
            header.set_device_minor(self.device.1).unwrap();
        }
        let mut pax = self.pax.clone();
        // Byte by byte: the methods of the crate refuse what an attack is made of.
        let old = header.as_old_mut();
        put(&mut old.name, "path", &self.path, &mut pax);
        put(&mut old.linkname, "linkpath", &self.link, &mut pax);
        header.set_cksum();
        tar.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).unwrap();
        tar.append(&header, self.body.as_slice()).unwrap();
    }
}

fn put(field: &mut [u8], key: &str, text: &str, pax: &mut Vec<(String, Vec<u8>)>) {
    if text.len() >= field.len() {
        pax.push((key.to_owned(), text.as_bytes().to_vec()));
    }
    for (byte, value) in field.iter_mut().zip(text.bytes()) {
        *byte = value;
    }
}

/// The archive, with the blocks at its end.
pub(crate) fn archive(items: &[Item]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    items.iter().for_each(|item| item.append(&mut tar));
    tar.into_inner().unwrap()
}
