//! The disk: the only file that knows paths, flushes and renames, and their order.
//!
//! Layout, as containerd's content store:
//!
//! ```text
//! blobs/sha256/<hex>            verified and flushed, mode 0444
//! ingest/<sha256 of the ref>/   ref, data, total, startedat, updatedat; and `expected`, which containerd does not keep
//! store-id                      random; equal ids see the same disk
//! db/                           RocksDB: which blobs there are, and when they came
//! ```
//!
//! A commit goes: flush the data; mode; rename to the blob's name; flush that directory; drop the ingest's directory. The
//! record in RocksDB follows. Whatever step is the last one done, [`Disk::recover`] finds a valid store: a file under a
//! blob's name is always whole.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use berth_api::content::STORE_ID_FILE;
use berth_kv::Durability;
use berth_model::{Digest, Status};

/// One step of a change on the disk, for tests that stop between any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Flush the data of an ingest.
    FlushData,
    /// Take the right to write away.
    Protect,
    /// Give it the blob's name.
    Rename,
    /// Flush the directory of the blobs.
    FlushBlobs,
    /// Drop what is left of the ingest.
    DropIngest,
}

/// Asked before each step; an error stops there.
pub type Hook = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The disk of a store.
#[derive(Clone)]
pub struct Disk {
    root: PathBuf,
    store_id: String,
    durability: Durability,
    hook: Option<Hook>,
}

/// What is known of an ingest on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its reference.
    pub reference: String,
    /// The digest it shall have, if known.
    pub expected: Option<Digest>,
    /// How long it shall be; 0 if not known.
    pub total: u64,
    /// Bytes there are.
    pub offset: u64,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

impl Disk {
    /// Makes the directories and the id if they are not there.
    pub fn open(root: &Path, durability: Durability) -> Result<Self, Status> {
        for dir in [root.to_owned(), root.join("blobs"), root.join("blobs/sha256"), root.join("ingest")] {
            match fs::DirBuilder::new().mode(0o711).recursive(true).create(&dir) {
                Ok(()) => {}
                Err(error) => return Err(Status::io("make directory", &dir, &error)),
            }
        }
        let path = root.join(STORE_ID_FILE);
        let store_id = match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => id.trim().to_owned(),
            _ => {
                let id = uuid::Uuid::new_v4().to_string();
                write_whole(&path, &id)?;
                id
            }
        };
        Ok(Self { root: root.to_owned(), store_id, durability, hook: None })
    }

    /// The same disk, which asks `hook` before each step.
    #[must_use]
    pub fn with_hook(self, hook: Hook) -> Self {
        Self { hook: Some(hook), ..self }
    }

    /// The random id of the store.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Where the blob is, if it is.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn ingest_dir(&self, reference: &str) -> PathBuf {
        self.root.join("ingest").join(Digest::of(reference.as_bytes()).hex())
    }

    /// The data file of an ingest.
    #[must_use]
    pub fn data_path(&self, reference: &str) -> PathBuf {
        self.ingest_dir(reference).join("data")
    }

    fn step(&self, step: Step, path: &Path) -> Result<(), Status> {
        match &self.hook {
            None => Ok(()),
            Some(hook) => hook(step).map_err(|error| Status::io(&format!("{step:?} of"), path, &error)),
        }
    }

    /// Finds or makes the directory and the data file of an ingest. `expected` and `total` are kept if they are known.
    pub fn begin(&self, reference: &str, expected: Option<&Digest>, total: u64) -> Result<Kept, Status> {
        let dir = self.ingest_dir(reference);
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&dir)
            .map_err(|error| Status::io("make directory", &dir, &error))?;
        let now = now();
        if !dir.join("startedat").exists() {
            write_whole(&dir.join("startedat"), &now)?;
        }
        write_whole(&dir.join("updatedat"), &now)?;
        if let Some(expected) = expected {
            write_whole(&dir.join("expected"), &expected.to_string())?;
        }
        if total > 0 {
            write_whole(&dir.join("total"), &total.to_string())?;
        }
        let data = dir.join("data");
        File::options().create(true).append(true).open(&data).map_err(|error| Status::io("make", &data, &error))?;
        // Last: a directory without it is half made and goes at the next start.
        write_whole(&dir.join("ref"), reference)?;
        self.kept(&dir)?.ok_or_else(|| Status::internal(format!("the ingest in {} vanished", dir.display())))
    }

    /// What is known of the ingest in a directory; `None` if it is half made.
    fn kept(&self, dir: &Path) -> Result<Option<Kept>, Status> {
        let text = |name: &str| fs::read_to_string(dir.join(name)).ok().map(|text| text.trim().to_owned());
        let Some(reference) = text("ref").filter(|reference| !reference.is_empty()) else { return Ok(None) };
        let data = dir.join("data");
        let offset = match fs::metadata(&data) {
            Ok(data) => data.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Status::io("look at", &data, &error)),
        };
        Ok(Some(Kept {
            reference,
            expected: text("expected").and_then(|text| text.parse().ok()),
            total: text("total").and_then(|text| text.parse().ok()).unwrap_or(0),
            offset,
            started_at: text("startedat").unwrap_or_default(),
            updated_at: text("updatedat").unwrap_or_default(),
        }))
    }

    /// Notes that an ingest was written to.
    pub fn touch(&self, reference: &str) {
        let path = self.ingest_dir(reference).join("updatedat");
        if let Err(status) = write_whole(&path, &now()) {
            tracing::debug!(%status, "the time of an ingest was not noted");
        }
    }

    /// Puts a new empty data file in place of the old one, which readers may go on reading.
    pub fn restart(&self, reference: &str) -> Result<(), Status> {
        let data = self.data_path(reference);
        let fresh = data.with_extension("new");
        File::create(&fresh).map_err(|error| Status::io("make", &fresh, &error))?;
        fs::rename(&fresh, &data).map_err(|error| Status::io("replace", &data, &error))
    }

    /// Gives the ingest a file of its own again, with the first `length` bytes of what it has: whoever still has the old
    /// one open writes into nothing.
    pub fn fork(&self, reference: &str, length: u64) -> Result<(), Status> {
        let data = self.data_path(reference);
        let fresh = data.with_extension("new");
        let copy = || {
            let mut from = io::Read::take(File::open(&data)?, length);
            io::copy(&mut from, &mut File::create(&fresh)?)?;
            fs::rename(&fresh, &data)
        };
        copy().map_err(|error| Status::io("copy", &data, &error))
    }

    /// Begins to write an ingest's bytes out, so that its commit finds little left to flush.
    pub fn flush_early(&self, reference: &str) -> Result<(), Status> {
        if self.durability == Durability::None {
            return Ok(());
        }
        let data = self.data_path(reference);
        match File::open(&data).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Status::io("flush", &data, &error)),
            _ => Ok(()),
        }
    }

    /// Publishes an ingest whose bytes were verified. `false`: the blob was there already, and the ingest is gone.
    pub fn publish(&self, reference: &str, digest: &Digest) -> Result<bool, Status> {
        let data = self.data_path(reference);
        let blob = self.blob_path(digest);
        if blob.exists() {
            self.step(Step::DropIngest, &data)?;
            self.drop_ingest(reference)?;
            return Ok(false);
        }
        self.step(Step::FlushData, &data)?;
        let file = File::open(&data).map_err(|error| Status::io("open", &data, &error))?;
        if self.durability == Durability::Synced {
            file.sync_data().map_err(|error| Status::io("flush", &data, &error))?;
        }
        self.step(Step::Protect, &data)?;
        file.set_permissions(Permissions::from_mode(0o444)).map_err(|error| Status::io("protect", &data, &error))?;
        self.step(Step::Rename, &blob)?;
        fs::rename(&data, &blob).map_err(|error| Status::io("publish", &blob, &error))?;
        self.step(Step::FlushBlobs, &blob)?;
        if self.durability == Durability::Synced {
            flush_dir(blob.parent().unwrap_or(&self.root))?;
        }
        self.step(Step::DropIngest, &data)?;
        self.drop_ingest(reference)?;
        Ok(true)
    }

    /// Removes an ingest. One that is not there is fine.
    pub fn drop_ingest(&self, reference: &str) -> Result<(), Status> {
        let dir = self.ingest_dir(reference);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Status::io("remove", &dir, &error)),
            _ => Ok(()),
        }
    }

    /// Deletes a blob's file and answers its size. NOT_FOUND.
    pub fn delete_blob(&self, digest: &Digest) -> Result<u64, Status> {
        let path = self.blob_path(digest);
        let size = fs::metadata(&path).map_err(|error| Status::io("find blob", &path, &error))?.len();
        fs::remove_file(&path).map_err(|error| Status::io("delete", &path, &error))?;
        Ok(size)
    }

    /// All blobs that have a file, with size and time.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64, std::time::SystemTime)>, Status> {
        let dir = self.root.join("blobs/sha256");
        let failed = |error: &io::Error| Status::io("list", &dir, error);
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|error| failed(&error))? {
            let entry = entry.map_err(|error| failed(&error))?;
            let name = entry.file_name();
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() else {
                tracing::warn!(path = %entry.path().display(), "not the name of a blob; left alone");
                continue;
            };
            let facts = entry.metadata().map_err(|error| failed(&error))?;
            blobs.push((digest, facts.len(), facts.modified().map_err(|error| failed(&error))?));
        }
        Ok(blobs)
    }

    /// All ingests; those half made are removed.
    pub fn recover(&self) -> Result<Vec<Kept>, Status> {
        let dir = self.root.join("ingest");
        let mut ingests = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|error| Status::io("list", &dir, &error))? {
            let path = entry.map_err(|error| Status::io("list", &dir, &error))?.path();
            match self.kept(&path)? {
                Some(kept) => ingests.push(kept),
                None => {
                    tracing::info!(path = %path.display(), "removing a half-made ingest");
                    fs::remove_dir_all(&path).map_err(|error| Status::io("remove", &path, &error))?;
                }
            }
        }
        Ok(ingests)
    }
}

fn now() -> String {
    berth_wire::types::Time::now().to_string()
}

/// Writes a small file so that it is there whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<(), Status> {
    let fresh = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&fresh, path)
    };
    write().map_err(|error: io::Error| Status::io("write", path, &error))
}

fn flush_dir(path: &Path) -> Result<(), Status> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| Status::io("flush directory", path, &error))
}
