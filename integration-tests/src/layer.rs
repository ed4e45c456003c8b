//! Layers made entry by entry: every kind of entry there is, and also those that no honest tool writes.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tar::{EntryType, Header};

/// One entry of a layer, its name and link written as they are: absolute, with `..`, whatever.
#[derive(Clone, Debug)]
pub struct Entry {
    kind: EntryType,
    path: String,
    link: String,
    body: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    mtime: String,
    device: (u32, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

/// The mtime of entries that name none: some second in 2023.
const MTIME: &str = "1700000000";

impl Entry {
    fn new(kind: EntryType, path: &str, mode: u32) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            link: String::new(),
            body: Vec::new(),
            mode,
            owner: (0, 0),
            mtime: MTIME.to_owned(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    /// A regular file.
    #[must_use]
    pub fn file(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(EntryType::Regular, path, 0o644) }
    }

    /// A directory.
    #[must_use]
    pub fn dir(path: &str) -> Self {
        Self::new(EntryType::Directory, path, 0o755)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(path: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(EntryType::Symlink, path, 0o777) }
    }

    /// Another name of an entry.
    #[must_use]
    pub fn hard_link(path: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(EntryType::Link, path, 0o644) }
    }

    /// A character device.
    #[must_use]
    pub fn char_device(path: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(EntryType::Char, path, 0o620) }
    }

    /// A block device.
    #[must_use]
    pub fn block_device(path: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(EntryType::Block, path, 0o660) }
    }

    /// A named pipe.
    #[must_use]
    pub fn fifo(path: &str) -> Self {
        Self::new(EntryType::Fifo, path, 0o600)
    }

    /// What removes an entry of the layers below (image-spec, `layer.md#whiteouts`).
    #[must_use]
    pub fn whiteout(path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
        let joint = if parent.is_empty() { "" } else { "/" };
        Self::file(&format!("{parent}{joint}.wh.{name}"), "")
    }

    /// What hides everything that the layers below have in a directory.
    #[must_use]
    pub fn opaque(directory: &str) -> Self {
        Self::file(&format!("{directory}/.wh..wh..opq"), "")
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// User and group.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Seconds, as PAX writes them: `1700000000.123456789`, also negative.
    #[must_use]
    pub fn mtime(mut self, mtime: &str) -> Self {
        mtime.clone_into(&mut self.mtime);
        self
    }

    /// An extended attribute.
    #[must_use]
    pub fn xattr(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.xattrs.push((name.to_owned(), value.into()));
        self
    }

    fn append(&self, tar: &mut tar::Builder<Vec<u8>>) -> Result<()> {
        let mut header = Header::new_ustar();
        let mut pax: Vec<(String, Vec<u8>)> = Vec::new();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_size(self.body.len() as u64);
        let seconds = self.mtime.split('.').next().unwrap_or_default();
        match seconds.parse::<u64>() {
            Ok(seconds) if self.mtime.len() <= 10 => header.set_mtime(seconds),
            _ => {
                header.set_mtime(0);
                pax.push(("mtime".to_owned(), self.mtime.clone().into_bytes()));
            }
        }
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(self.device.0)?;
            header.set_device_minor(self.device.1)?;
        }
        // Written byte by byte: the methods of the crate refuse what an attack is made of.
        let old = header.as_old_mut();
        put(&mut old.name, "path", &self.path, &mut pax);
        put(&mut old.linkname, "linkpath", &self.link, &mut pax);
        for (name, value) in &self.xattrs {
            pax.push((format!("SCHILY.xattr.{name}"), value.clone()));
        }
        header.set_cksum();
        tar.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        tar.append(&header, self.body.as_slice())?;
        Ok(())
    }
}

fn put(field: &mut [u8], key: &str, text: &str, pax: &mut Vec<(String, Vec<u8>)>) {
    let fits = text.len() < field.len() && text.is_ascii();
    if !fits {
        pax.push((key.to_owned(), text.as_bytes().to_vec()));
    }
    for (byte, value) in field.iter_mut().zip(text.bytes()) {
        *byte = value;
    }
}

/// The uncompressed bytes of a layer.
pub fn layer(entries: impl IntoIterator<Item = Entry>) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        entry.append(&mut tar)?;
    }
    tar.into_inner().context("end the tar")
}

/// A layer of everything in a directory, made by GNU tar with these options (`--sparse`, `--format=gnu`).
pub fn layer_by_gnu_tar(directory: &Path, options: &[&str]) -> Result<Vec<u8>> {
    let made = Command::new("tar")
        .args(["--create", "--numeric-owner", "--sort=name"])
        .args(options)
        .arg("-C")
        .arg(directory)
        .arg(".")
        .stderr(Stdio::inherit())
        .output()
        .context("run tar")?;
    ensure!(made.status.success(), "tar failed: {}", made.status);
    Ok(made.stdout)
}
