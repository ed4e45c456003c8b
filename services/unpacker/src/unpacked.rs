//! What is kept beside a tree that was unpacked and is not committed: proof that it is whole, and what it leaves open.
//!
//! It is written last, and it counts only until the machine starts again: before the commit nothing was flushed, so after
//! a power cut it could stand beside a torn tree. A killed process tears nothing that was written.

use std::{fs, io, path::Path, sync::LazyLock};

use berth_failpoint::{Point, check};
use berth_model::{Digest, Status};

use crate::{pipeline::Streamed, residue::Residue};

const FILE: &str = "unpacked.json";

static BOOT: LazyLock<String> = LazyLock::new(|| {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
});

/// A layer's tree is whole.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Unpacked {
    boot: String,
    diff_id: String,
    /// Uncompressed bytes of the layer.
    pub uncompressed_size: u64,
    /// What is to be settled with the layers below.
    pub residue: Residue,
}

impl Unpacked {
    /// Keeps it beside the tree in the directory of a snapshot.
    pub fn keep(residue: Residue, streamed: &Streamed, snapshot: &Path) -> Result<(), Status> {
        let kept = Self {
            boot: BOOT.clone(),
            diff_id: streamed.diff_id.to_string(),
            uncompressed_size: streamed.size,
            residue,
        };
        let bytes = serde_json::to_vec(&kept).map_err(|error| Status::internal(error.to_string()))?;
        let path = snapshot.join(FILE);
        // A part of it is no proof, and is not taken for one.
        check(Point::UnpackKeep)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|error| Status::io("write", &path, &error))
    }

    /// What was kept; `None` if the tree is not known to be whole.
    pub fn kept(snapshot: &Path) -> Result<Option<Self>, Status> {
        let path = snapshot.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Status::io("read", &path, &error)),
        };
        // What cannot be read was written by another version, or torn: no proof.
        let kept = serde_json::from_slice::<Self>(&bytes).ok();
        Ok(kept.filter(|kept| !kept.boot.is_empty() && kept.boot == *BOOT))
    }

    /// Whether it is the tree of this layer.
    #[must_use]
    pub fn is_of(&self, diff_id: &Digest) -> bool {
        self.diff_id == diff_id.to_string()
    }

    /// Drops what was kept: the tree is committed, or changes.
    pub fn drop_kept(snapshot: &Path) {
        drop(fs::remove_file(snapshot.join(FILE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(bytes: &[u8]) -> Streamed {
        Streamed { diff_id: Digest::of(bytes), size: 7 }
    }

    #[test]
    fn proof_is_of_this_layer_and_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Unpacked::kept(dir.path()).unwrap().is_none());
        Unpacked::keep(Residue::default(), &streamed(b"a"), dir.path()).unwrap();
        let kept = Unpacked::kept(dir.path()).unwrap().unwrap();
        assert!(kept.is_of(&Digest::of(b"a")) && !kept.is_of(&Digest::of(b"b")));
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        fs::write(dir.path().join(FILE), text.replace(BOOT.as_str(), "an-earlier-boot")).unwrap();
        assert!(Unpacked::kept(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(FILE), &text[..20]).unwrap();
        assert!(Unpacked::kept(dir.path()).unwrap().is_none());
    }
}
