//! One layer: a tar made entry by entry, and the ways to compress it.

use std::io::Write as _;

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use tar::{EntryType, Header};

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar.
    None,
    /// gzip, the usual one.
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The layer media type. Docker has none for zstd and none for bare tars of its own; OCI's is used for zstd.
    #[must_use]
    pub fn media_type(self, docker: bool) -> &'static str {
        match (self, docker) {
            (Self::None, false) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Gzip, false) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Zstd, _) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::None, true) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Gzip, true) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }

    /// The compressed bytes; equal input gives equal output.
    #[must_use]
    pub fn compress(self, tar: &[u8]) -> Bytes {
        match self {
            Self::None => Bytes::copy_from_slice(tar),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap().into()
            }
            Self::Zstd => zstd::encode_all(tar, 3).unwrap().into(),
        }
    }
}

/// The entries of a layer, in the order they are added. Times are 0, owners root, unless a header says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    tar: Vec<u8>,
}

impl Layer {
    /// No entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tar made elsewhere, taken as it is (with or without its end).
    #[must_use]
    pub fn from_tar(tar: Vec<u8>) -> Self {
        Self { tar }
    }

    /// The whole tar.
    #[must_use]
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.extend_from_slice(&[0; 1024]);
        tar
    }

    /// Any entry. Path and link are written as they are given, so that a test can be malicious.
    #[must_use]
    pub fn entry(self, kind: EntryType, path: &str, mode: u32, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        let fields = header.as_ustar_mut().unwrap();
        put(&mut fields.name, path);
        put(&mut fields.linkname, link);
        header.set_cksum();
        self.append(&header, data)
    }

    /// An entry with a header made by the caller.
    #[must_use]
    pub fn append(mut self, header: &Header, data: &[u8]) -> Self {
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(data);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// A regular file, mode 0644.
    #[must_use]
    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, 0o644, "", data)
    }

    /// A regular file of bytes that do not compress, the same for the same seed.
    #[must_use]
    pub fn random_file(self, path: &str, size: usize, seed: u64) -> Self {
        self.file(path, &random_bytes(size, seed))
    }

    /// A directory, mode 0755.
    #[must_use]
    pub fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, 0o755, "", &[])
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, target, &[])
    }

    /// A hard link to a path of the layer or of those below.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o644, target, &[])
    }

    /// Removes a path of the layers below.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let marker = match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&marker, &[])
    }

    /// Hides what the layers below have in a directory.
    #[must_use]
    pub fn opaque(self, dir: &str) -> Self {
        self.file(&format!("{dir}/.wh..wh..opq"), &[])
    }
}

/// Bytes that do not compress, the same for the same seed.
#[must_use]
pub fn random_bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand::rngs::SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn put(field: &mut [u8], text: &str) {
    assert!(text.len() <= field.len(), "{text:?} is too long for a plain header; make one with append()");
    field[..text.len()].copy_from_slice(text.as_bytes());
}
