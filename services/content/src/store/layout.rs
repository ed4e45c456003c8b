//! Where things are in the store's directory, and how what is there is read. As containerd's content store:
//!
//! ```text
//! blobs/sha256/<hex>            verified and flushed, mode 0444
//! ingest/<sha256 of the ref>/   ref, data, total, startedat, updatedat; and `expected`, which containerd does not keep
//! damaged/<hex>                 files that were found damaged and taken out
//! store-id                      random; equal ids see the same disk
//! db/                           RocksDB: which blobs there are, how long, since when
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use berth_api::content::STORE_ID_FILE;
use berth_model::{Digest, Status};
use berth_wire::types::Time;

/// The paths of a store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// What is known of an ingest on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) reference: String,
    pub(crate) expected: Option<Digest>,
    /// 0 if not known.
    pub(crate) total: u64,
    /// Bytes there are.
    pub(crate) length: u64,
    pub(crate) started_at: Option<Time>,
    pub(crate) updated_at: Option<Time>,
}

/// What is in the ingests' directory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) ingests: Vec<Kept>,
    /// Directories that a crash left between two steps.
    pub(crate) half_made: Vec<PathBuf>,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn store_id(&self) -> PathBuf {
        self.root.join(STORE_ID_FILE)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Where files of damaged blobs are kept.
    pub(crate) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn ingest(&self, reference: &str) -> PathBuf {
        self.ingests().join(Digest::of(reference.as_bytes()).hex())
    }

    pub(crate) fn data(&self, reference: &str) -> PathBuf {
        self.ingest(reference).join("data")
    }

    /// How long an ingest's data file is.
    pub(crate) fn data_length(&self, reference: &str) -> Result<u64, Status> {
        let path = self.data(reference);
        Ok(fs::metadata(&path).map_err(|error| Status::io("look at", &path, &error))?.len())
    }

    /// When an ingest's bytes last changed; `None`: it has no file.
    pub(crate) fn written_at(&self, reference: &str) -> Result<Option<Time>, Status> {
        let path = self.data(reference);
        match fs::metadata(&path).and_then(|facts| facts.modified()) {
            Ok(time) => Ok(Some(time.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Status::io("look at", &path, &error)),
        }
    }

    /// How long a blob's file is and since when it is there; `None` if it is not.
    pub(crate) fn blob_facts(&self, digest: &Digest) -> Result<Option<(u64, SystemTime)>, Status> {
        let path = self.blob(digest);
        match fs::metadata(&path).and_then(|facts| Ok((facts.len(), facts.modified()?))) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Status::io("look for", &path, &error)),
        }
    }

    /// The digests of all blobs that have a file. Reads the directory and nothing else.
    pub(crate) fn list_blobs(&self) -> Result<Vec<Digest>, Status> {
        let mut blobs = Vec::new();
        for_each_entry(&self.blobs(), |entry| {
            let name = entry.file_name();
            let digest = format!("sha256:{}", name.to_string_lossy()).parse();
            match (digest, entry.file_type().is_ok_and(|kind| kind.is_file())) {
                (Ok(digest), true) => blobs.push(digest),
                _ => tracing::warn!(path = %entry.path().display(), "not a blob; left alone"),
            }
            Ok(())
        })?;
        Ok(blobs)
    }

    /// All ingests.
    pub(crate) fn list_ingests(&self) -> Result<Found, Status> {
        let mut found = Found::default();
        for_each_entry(&self.ingests(), |entry| {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                tracing::warn!(path = %path.display(), "not an ingest; left alone");
                return Ok(());
            }
            match read_ingest(&path)? {
                // A power cut may damage a ref that was never flushed.
                Some(kept) if self.ingest(&kept.reference) == path => found.ingests.push(kept),
                _ => found.half_made.push(path),
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// What is known of the ingest in a directory; `None` if it is half made.
pub(crate) fn read_ingest(dir: &Path) -> Result<Option<Kept>, Status> {
    let text = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let Some(reference) = text("ref") else { return Ok(None) };
    let data = dir.join("data");
    let facts = match fs::metadata(&data) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Status::io("look at", &data, &error)),
    };
    Ok(Some(Kept {
        reference,
        expected: text("expected").and_then(|text| text.trim().parse().ok()),
        total: text("total").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        length: facts.len(),
        started_at: text("startedat").as_deref().and_then(time),
        updated_at: text("updatedat").as_deref().and_then(time),
    }))
}

/// Reads a time that was kept as text, RFC 3339.
fn time(text: &str) -> Option<Time> {
    text.trim().parse::<jiff::Timestamp>().ok().map(|time| SystemTime::from(time).into())
}

fn for_each_entry(dir: &Path, mut each: impl FnMut(fs::DirEntry) -> Result<(), Status>) -> Result<(), Status> {
    let failed = |error: &io::Error| Status::io("list", dir, error);
    for entry in fs::read_dir(dir).map_err(|error| failed(&error))? {
        each(entry.map_err(|error| failed(&error))?)?;
    }
    Ok(())
}
