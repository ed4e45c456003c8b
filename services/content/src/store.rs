//! The store's changes of the disk: the only file that knows flushes and renames, and their order.
//!
//! A commit goes: flush the data; mode; rename to the blob's name; flush that directory; drop the ingest. Its record in
//! RocksDB follows, and then the answer. An ingest goes by its `ref` first and comes with its `ref` last, so that what a
//! crash left half made or half gone is known by the lack of one.

mod disk;
mod layout;
mod together;

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use berth_failpoint::{Point, pass};
use berth_model::{Digest, Status};
use berth_wire::types::Time;

pub(crate) use self::{
    disk::{Disk, Host},
    layout::{Kept, Layout},
};

/// The files of a store. All methods block.
pub(crate) struct Store {
    layout: Layout,
    id: String,
    disk: Arc<dyn Disk>,
    /// Held from looking whether a blob is there until it is: a rename takes the name from whoever has it.
    publishing: Mutex<()>,
}

impl Store {
    /// Makes the directories and the id if they are not there.
    pub(crate) fn open(root: &Path, disk: Arc<dyn Disk>) -> Result<Self, Status> {
        let layout = Layout::new(root);
        for dir in [root.to_owned(), layout.blobs(), layout.ingests()] {
            disk.make_dir(&dir, 0o711).map_err(|error| Status::io("make directory", &dir, &error))?;
        }
        let mut store = Self { layout, id: String::new(), disk, publishing: Mutex::new(()) };
        store.id = store.identify()?;
        Ok(store)
    }

    fn identify(&self) -> Result<String, Status> {
        let path = self.layout.store_id();
        match std::fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Status::io("read", &path, &error)),
        }
        let (id, fresh) = (uuid::Uuid::new_v4().to_string(), path.with_extension("tmp"));
        let make = || {
            self.disk.write(&fresh, &id)?;
            self.disk.flush(&fresh)?;
            self.disk.rename(&fresh, &path)?;
            self.disk.flush_dir(&self.layout.root().join("blobs"))?;
            self.disk.flush_dir(self.layout.root())
        };
        make().map_err(|error| Status::io("write", &path, &error))?;
        Ok(id)
    }

    /// Where things are.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The random id of the store.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Finds or makes an ingest. What is said of it and was not known is kept.
    pub(crate) fn begin(&self, reference: &str, expected: Option<&Digest>, total: u64) -> Result<Kept, Status> {
        let dir = self.layout.ingest(reference);
        let Some(known) = layout::read_ingest(&dir)? else { return self.begin_fresh(&dir, reference, expected, total) };
        self.write_whole(&dir.join("updatedat"), &Time::now().to_string())?;
        if let (Some(expected), None) = (expected, known.expected) {
            self.write_whole(&dir.join("expected"), &expected.to_string())?;
        }
        if total > 0 && known.total == 0 {
            self.write_whole(&dir.join("total"), &total.to_string())?;
        }
        let data = dir.join("data");
        if std::fs::metadata(&data).is_ok_and(|facts| facts.permissions().readonly()) {
            // A commit came as far as to protect it.
            self.disk.set_mode(&data, 0o644).map_err(|error| Status::io("open up", &data, &error))?;
        }
        layout::read_ingest(&dir)?.ok_or_else(|| Status::internal(format!("the ingest in {} vanished", dir.display())))
    }

    /// Makes an ingest. Its `ref` comes last, and whole: until then what is in the directory is nothing, so the other files
    /// need no such care.
    fn begin_fresh(&self, dir: &Path, reference: &str, expected: Option<&Digest>, total: u64) -> Result<Kept, Status> {
        self.disk.make_dir(dir, 0o700).map_err(|error| Status::io("make directory", dir, &error))?;
        let now = Time::now();
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            self.disk.write(&path, text).map_err(|error| Status::io("write", &path, &error))
        };
        for name in ["startedat", "updatedat"] {
            write(name, &now.to_string())?;
        }
        if let Some(expected) = expected {
            write("expected", &expected.to_string())?;
        }
        if total > 0 {
            write("total", &total.to_string())?;
        }
        let data = dir.join("data");
        self.disk.create(&data).map_err(|error| Status::io("make", &data, &error))?;
        self.write_whole(&dir.join("ref"), reference)?;
        let (expected, times) = (expected.copied(), Some(now));
        Ok(Kept { reference: reference.to_owned(), expected, total, length: 0, started_at: times, updated_at: times })
    }

    /// Notes that an ingest was written to. Only for people who look; so a failure is no failure.
    pub(crate) fn touch(&self, reference: &str) {
        let path = self.layout.ingest(reference).join("updatedat");
        if let Err(status) = self.write_whole(&path, &Time::now().to_string()) {
            tracing::debug!(%status, "the time of an ingest was not noted");
        }
    }

    /// Puts a new empty data file in place of the old one, which readers may go on reading.
    pub(crate) fn restart(&self, reference: &str) -> Result<(), Status> {
        let data = self.layout.data(reference);
        self.replace(&data, |fresh| self.disk.create(fresh)).map_err(|error| Status::io("replace", &data, &error))
    }

    /// Gives the ingest a file of its own again, with the bytes it has: who has the old one open writes into nothing.
    pub(crate) fn fork(&self, reference: &str, length: u64) -> Result<(), Status> {
        let data = self.layout.data(reference);
        self.replace(&data, |fresh| self.disk.copy(&data, fresh, length))
            .map_err(|error| Status::io("copy", &data, &error))
    }

    fn replace(&self, data: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let fresh = data.with_extension("new");
        let done = make(&fresh).and_then(|()| self.disk.rename(&fresh, data));
        if done.is_err() {
            // On a full disk its room is wanted; what stays goes with the ingest or at the next start.
            drop(self.disk.remove_file(&fresh));
        }
        done
    }

    /// Whether some writer still has the data file open: writers hold a shared lock for as long.
    pub(crate) fn is_held(&self, reference: &str) -> Result<bool, Status> {
        let data = self.layout.data(reference);
        let file = File::open(&data).map_err(|error| Status::io("open", &data, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(path = %data.display(), %error, "no locks here; somebody may have the file open");
                Ok(true)
            }
        }
    }

    /// Makes what an ingest has so far durable, so that its commit finds little left to flush and a power cut takes little.
    /// The first time with all its names; small blobs never pay for that.
    pub(crate) fn keep(&self, reference: &str, first: bool) -> Result<(), Status> {
        let dir = self.layout.ingest(reference);
        let flush = |path: PathBuf| match self.disk.flush(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Status::io("flush", &path, &error)),
            _ => Ok(()),
        };
        flush(dir.join("data"))?;
        if first {
            flush(dir.join("expected"))?;
            flush(dir.join("total"))?;
            flush(dir.join("ref"))?;
            for dir in [dir.as_path(), &self.layout.ingests()] {
                match self.disk.flush_dir(dir) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Status::io("flush directory", dir, &error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Makes an ingest's bytes durable before [`Store::publish`].
    pub(crate) fn flush_data(&self, reference: &str) -> Result<(), Status> {
        let data = self.layout.data(reference);
        self.disk.flush(&data).map_err(|error| Status::io("flush", &data, &error))
    }

    /// Publishes an ingest whose bytes were verified and flushed. `false`: the blob was there already, and the ingest is
    /// gone. Either way the blob's name is on disk when this returns.
    pub(crate) fn publish(&self, reference: &str, digest: &Digest) -> Result<bool, Status> {
        let (data, blob) = (self.layout.data(reference), self.layout.blob(digest));
        let fresh = {
            let _alone = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = self.layout.blob_facts(digest)?.is_none();
            if fresh {
                pass(Point::ContentFlushed);
                self.disk.set_mode(&data, 0o444).map_err(|error| Status::io("protect", &data, &error))?;
                self.disk.rename(&data, &blob).map_err(|error| Status::io("publish", &blob, &error))?;
            }
            fresh
        };
        pass(Point::ContentNamed);
        // Also when somebody else gave it the name: they may not have come to here yet.
        self.flush_blobs()?;
        pass(Point::ContentPublished);
        if let Err(status) = self.drop_ingest(reference) {
            tracing::warn!(%status, "what is left of a committed ingest was not removed; the next start will");
        }
        Ok(fresh)
    }

    /// Returns when all blobs have their names on disk.
    pub(crate) fn flush_blobs(&self) -> Result<(), Status> {
        let blobs = self.layout.blobs();
        self.disk.flush_dir(&blobs).map_err(|error| Status::io("flush directory", &blobs, &error))
    }

    /// Removes an ingest. One that is not there is fine.
    pub(crate) fn drop_ingest(&self, reference: &str) -> Result<(), Status> {
        self.drop_dir(&self.layout.ingest(reference))
    }

    fn drop_dir(&self, dir: &Path) -> Result<(), Status> {
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Status::io("remove", dir, &error)),
            _ => Ok(()),
        };
        gone(self.disk.remove_file(&dir.join("ref")))?;
        gone(self.disk.remove_tree(dir))
    }

    /// Deletes a blob's file, unless `not_after` said no at the last moment, and answers its size. NOT_FOUND.
    ///
    /// Not flushed: a blob that a power cut brings back is whole, and is collected again.
    pub(crate) fn delete_blob(
        &self,
        digest: &Digest,
        allowed: impl FnOnce() -> Result<(), Status>,
    ) -> Result<u64, Status> {
        let facts = self.layout.blob_facts(digest)?;
        let (size, _) = facts.ok_or_else(|| Status::not_found(format!("blob {digest} not found")))?;
        allowed()?;
        let path = self.layout.blob(digest);
        self.disk.remove_file(&path).map_err(|error| Status::io("delete", &path, &error))?;
        pass(Point::ContentDeleted);
        Ok(size)
    }

    /// Takes a damaged blob out of the store; its file is kept aside, in place of what was kept of it before.
    pub(crate) fn put_aside(&self, digest: &Digest) -> Result<(), Status> {
        let (path, dir) = (self.layout.blob(digest), self.layout.damaged());
        self.disk.make_dir(&dir, 0o700).map_err(|error| Status::io("make directory", &dir, &error))?;
        match self.disk.rename(&path, &dir.join(digest.hex())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Status::io("put aside", &path, &error)),
            _ => self.flush_blobs(),
        }
    }

    /// The ingests found at the start, and how many half-made ones were removed.
    pub(crate) fn recover(&self) -> Result<(Vec<Kept>, usize), Status> {
        let found = self.layout.list_ingests()?;
        for dir in &found.half_made {
            self.drop_dir(dir)?;
        }
        for kept in &found.ingests {
            let aside = self.layout.data(&kept.reference).with_extension("new");
            match self.disk.remove_file(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Status::io("remove", &aside, &error));
                }
                _ => {}
            }
        }
        Ok((found.ingests, found.half_made.len()))
    }

    /// Writes a small file so that it is there whole or not at all.
    fn write_whole(&self, path: &Path, text: &str) -> Result<(), Status> {
        let fresh = path.with_extension("tmp");
        let write = || self.disk.write(&fresh, text).and_then(|()| self.disk.rename(&fresh, path));
        write().map_err(|error| Status::io("write", path, &error))
    }
}
