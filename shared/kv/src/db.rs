//! The store: opened by one process, read through views, written through the writer.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use berth_model::Status;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Options,
    hold::Hold,
    layout::Tables,
    numbers::{self, Numbers},
    store::Store,
    txn::{Txn, View},
    writer::{Change, Counters, Flush, QUEUE, Writer},
};

/// A store. Cheap to clone; the last clone that goes flushes and closes it.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    // In the order in which they must go: no more changes, then the writer's end, then the store, then the lock.
    changes: Option<mpsc::Sender<Change>>,
    writer: Option<JoinHandle<()>>,
    store: Arc<Store>,
    path: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by tests of group commit"))]
    counters: Arc<Counters>,
    hold: Hold,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the writer of the store ended by a panic");
        }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the store in a directory, which is made if need be. Blocking, some milliseconds.
    ///
    /// FAILED_PRECONDITION: another process holds it, or its format is not known. PERMISSION_DENIED: not writable.
    pub fn open(path: &Path, options: Options) -> Result<Db, Status> {
        let hold = Hold::take(path, &options.holder)?;
        let tables = Tables { layout: hold.layout, names: options.tables };
        let store = Arc::new(Store::open(path, tables, hold.same_boot)?);
        let counters = Arc::new(Counters::default());
        let (changes, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            store: Arc::clone(&store),
            path: path.to_owned(),
            durability: options.durability,
            counters: Arc::clone(&counters),
            numbers: Numbers::new(path),
        };
        numbers::observe(&store, path);
        let writer = std::thread::Builder::new()
            .name("kv-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| Status::resource_exhausted(format!("start the writer of {}: {error}", path.display())))?;
        let inner =
            Inner { changes: Some(changes), writer: Some(writer), store, path: path.to_owned(), counters, hold };
        Ok(Db { inner: Arc::new(inner) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The kernel's id of this start of the machine; empty if it is not known. While it stays the same nothing has ended but
    /// processes, and what these wrote is there, flushed or not.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.inner.hold.boot
    }

    /// Reads one consistent state, on a blocking thread.
    pub async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        let here = self.clone();
        match tokio::task::spawn_blocking(move || here.read_here(read)).await {
            Ok(done) => done,
            Err(error) => Err(Status::internal(format!("a reader of the store failed: {error}"))),
        }
    }

    /// The same on the caller's thread, which must be one that may wait for the disk.
    pub fn read_here<R>(&self, read: impl FnOnce(&View<'_>) -> Result<R, Status>) -> Result<R, Status> {
        let inner = &self.inner;
        let store = inner.store.read();
        let db = store.as_ref().ok_or_else(|| Store::closed(&inner.path))?;
        read(&View { db, tables: inner.store.tables, snapshot: db.snapshot(), path: &inner.path })
    }

    /// Checks and writes as one atomic step; returns after the change is on disk. If `change` errs, nothing is written.
    ///
    /// A change that was begun is carried out also when the caller goes away.
    pub async fn write<R, E>(&self, change: impl FnOnce(&mut Txn<'_>) -> Result<R, E> + Send + 'static) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Status> + Send + 'static,
    {
        self.submit(change, Flush::First).await
    }

    /// Like [`Db::write`], but returns before the flush: atomic and in order, and on disk with the next `write`.
    pub async fn write_relaxed<R, E>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Status> + Send + 'static,
    {
        self.submit(change, Flush::Later).await
    }

    /// Like [`Db::write_relaxed`], but nothing is flushed for its sake, not even when the store is closed: for what a power cut
    /// may take. As ever, it takes what came later first.
    pub async fn write_lazy<R, E>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Status> + Send + 'static,
    {
        self.submit(change, Flush::None).await
    }

    async fn submit<R, E>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, E> + Send + 'static,
        flush: Flush,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Status> + Send + 'static,
    {
        let (tell, hear) = oneshot::channel::<Result<R, E>>();
        let result = Arc::new(Mutex::new(None::<Result<R, E>>));
        let kept = Arc::clone(&result);
        let change = Change {
            run: Box::new(move |txn| {
                let done = change(txn);
                let wanted = done.is_ok();
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                wanted
            }),
            answer: Box::new(move |written| {
                let done = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                let answer = match (done, written) {
                    (Some(Err(refused)), _) => Err(refused),
                    (_, Err(disk)) => Err(E::from(disk)),
                    (Some(Ok(done)), Ok(())) => Ok(done),
                    (None, Ok(())) => {
                        Err(E::from(Status::internal("a change of the store panicked; nothing of it was written")))
                    }
                };
                // The caller may be gone; the change stands all the same.
                drop(tell.send(answer));
            }),
            flush,
        };
        let closed = || E::from(Status::unavailable("the store is closed"));
        let changes = self.inner.changes.as_ref().ok_or_else(closed)?;
        changes.send(change).await.map_err(|_closed| closed())?;
        hear.await.map_err(|_closed| closed())?
    }

    #[cfg(test)]
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }
}

#[cfg(test)]
mod tests;
