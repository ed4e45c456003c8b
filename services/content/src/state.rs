//! The store while it is open: its files, its table of blobs, its ingests, and who waits for changes of them.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_api::blocking;
use berth_kv::{Db, View};
use berth_model::{Digest, Status};
use berth_wire::{content as msg, types::Time};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::{
    Config,
    agreement::Looked,
    open::Open,
    reconcile::{reconcile, record},
    store::{Disk, Store},
    tables::{TABLES, blobs},
};

pub(crate) struct State {
    pub(crate) store: Arc<Store>,
    pub(crate) db: Db,
    pub(crate) silence: Duration,
    pub(crate) max_ingests: usize,
    ingests: Mutex<BTreeMap<String, Arc<Open>>>,
    /// Grows when an ingest or a blob comes or goes, or an ingest gets or loses its writer.
    changes: watch::Sender<u64>,
}

impl State {
    /// Opens the store: takes its lock, and makes table and directories agree.
    pub(crate) async fn open(config: Config, disk: Arc<dyn Disk>) -> Result<Arc<Self>, Status> {
        let Config { root, durability, holder, writer_silence, max_ingests } = config;
        let path = root.clone();
        let (db, store, (kept, half_made), looked, files) = blocking(move || {
            disk.make_dir(&path, 0o711).map_err(|error| Status::io("make directory", &path, &error))?;
            let options = berth_kv::Options { durability, tables: TABLES, holder };
            // The lock before anything else: nothing of a store that somebody else holds may be touched.
            let db = Db::open(&path.join("db"), options)?;
            let store = Store::open(&path, disk)?;
            let kept = store.recover()?;
            let looked = Looked::at(store.layout(), db.boot())?;
            let agrees = db.read_here(|view| Ok(looked.is_as_listed(view)))?;
            let files = if agrees { None } else { Some(store.layout().list_blobs()?) };
            Ok((db, Arc::new(store), kept, looked, files))
        })
        .await?;
        // Unknown where nothing was listed.
        let blobs = files.as_ref().map(Vec::len);
        let (added, dropped) = match files {
            Some(files) => reconcile(&db, &store, looked, files).await?,
            None => (0, 0),
        };
        let ingests: BTreeMap<_, _> =
            kept.into_iter().map(|kept| (kept.reference.clone(), Arc::new(Open::new(kept, store.layout())))).collect();
        tracing::info!(
            root = %root.display(), blobs, ingests = ingests.len(), half_made_removed = half_made,
            records_added = added, records_dropped = dropped, "content store opened"
        );
        Ok(Arc::new(Self {
            store,
            db,
            silence: writer_silence,
            max_ingests,
            ingests: Mutex::new(ingests),
            changes: watch::Sender::new(0),
        }))
    }

    pub(crate) fn ingests(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Open>>> {
        self.ingests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, reference: &str) -> Option<Arc<Open>> {
        self.ingests().get(reference).cloned()
    }

    /// Wakes all who wait.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Runs work on the store's files on a thread of its own. It outlives whoever waits for it, and this: the store stays
    /// locked until it ends, so that nobody who opens the store finds it at work.
    pub(crate) async fn files<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        let (store, locked) = (Arc::clone(&self.store), self.db.clone());
        blocking(move || {
            let done = work(&store);
            drop(locked);
            done
        })
        .await
    }

    /// The record of a blob: it is there, whole and durable, when this finds one.
    pub(crate) async fn blob(&self, digest: Digest) -> Result<Option<msg::StatBlobReply>, Status> {
        let store = Arc::clone(&self.store);
        self.db.read(move |view| find(view, &store, &digest)).await
    }

    /// Makes the records of blobs agree with their files as these are then; changes of records are made one after the
    /// other.
    pub(crate) async fn settle(&self, digests: Vec<Digest>) -> Result<(), Status> {
        let store = Arc::clone(&self.store);
        self.db
            .write(move |txn| {
                for digest in &digests {
                    match store.layout().blob_facts(digest)? {
                        None => blobs::delete(txn, digest)?,
                        Some((size, _)) if !blobs::contains(txn, digest)? => {
                            blobs::put(txn, digest, &record(digest, size, Time::now()))?;
                        }
                        Some(_) => {}
                    }
                }
                Ok(())
            })
            .await
    }

    /// Takes an ingest off the list, after its files went, and tells who waits. The caller has its turn.
    pub(crate) fn end(&self, open: &Open) {
        self.forget(open);
        self.changed();
    }

    /// Takes one off the list that never was anything. The caller has its turn.
    pub(crate) fn forget(&self, open: &Open) {
        open.end();
        self.ingests().remove(open.reference());
    }
}

/// The record of a blob in one state of the table, if its file is there too.
pub(crate) fn find(view: &View<'_>, store: &Store, digest: &Digest) -> Result<Option<msg::StatBlobReply>, Status> {
    let Some(stored) = blobs::get(view, digest)? else { return Ok(None) };
    if store.layout().blob_facts(digest)?.is_none() {
        tracing::warn!(%digest, "the file of a blob is gone; it counts as missing");
        return Ok(None);
    }
    Ok(Some(located(store, digest, stored)))
}

/// Runs to its end also when the caller goes away.
pub(crate) async fn detached<R: Send + 'static>(
    work: impl Future<Output = Result<R, Status>> + Send + 'static,
) -> Result<R, Status> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(error) => Err(Status::internal(format!("a change of the content store failed: {error}"))),
    }
}

/// A record with what it does not store: where the store is now.
pub(crate) fn located(store: &Store, digest: &Digest, stored: msg::StatBlobReply) -> msg::StatBlobReply {
    msg::StatBlobReply {
        digest: digest.to_string(),
        path: store.layout().blob(digest).display().to_string(),
        store_id: store.id().to_owned(),
        ..stored
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use berth_model::Code;

    use super::*;
    use crate::store::Host;

    #[test]
    fn the_store_stays_locked_while_its_files_are_worked_on() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().to_owned(), "berth test");
        let open = || State::open(config.clone(), Arc::new(Host::new(config.durability)));
        let ((begun, begins), (end, ends)) = (mpsc::channel(), mpsc::channel::<()>());

        let dying = tokio::runtime::Runtime::new().unwrap();
        let state = dying.block_on(open()).unwrap();
        dying.spawn(async move {
            let work = state.files(move |_| {
                begun.send(()).unwrap();
                ends.recv().unwrap();
                Ok(())
            });
            work.await
        });
        begins.recv().unwrap();
        dying.shutdown_background();

        let next = tokio::runtime::Runtime::new().unwrap();
        // Everything else of it is gone after some milliseconds.
        for _ in 0..500 {
            let refused = next.block_on(open()).map(drop).unwrap_err();
            assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
        }
        end.send(()).unwrap();
        let asked = Instant::now();
        while let Err(status) = next.block_on(open()) {
            assert!(asked.elapsed() < Duration::from_secs(30), "{status}");
        }
    }
}
