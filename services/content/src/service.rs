//! The contract, over the disk and the open ingests. Each method: check, decide, act.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_api::{blocking, content::Content};
use berth_kv::Db;
use berth_model::{Code, Digest, Status};
use berth_wire::{
    content::{self as msg, watch_blob_reply::State},
    convert,
    types::Time,
};
use tokio::sync::watch;

use crate::{
    Config,
    open::{Open, time},
    store::Disk,
    tables::{BLOBS, FAMILIES},
};

/// More ingests than this at once are refused: each has a directory, and a thread while it is written.
const MAX_INGESTS: usize = 1024;
/// A page of a list; replies stay far below what the bus carries.
const PAGE: usize = 500;
const MAX_PAGE: usize = 1000;
/// A long poll never waits longer.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The content service.
pub struct Service {
    disk: Disk,
    db: Db,
    silence: Duration,
    ingests: Mutex<BTreeMap<String, Arc<Open>>>,
    /// Grows when an ingest or a blob comes or goes.
    changes: watch::Sender<u64>,
}

impl Service {
    /// Opens the store: takes its lock, and makes index and directories agree.
    pub async fn open(config: Config) -> Result<Arc<Self>, Status> {
        blocking(move || {
            let options =
                berth_kv::Options { durability: config.durability, families: FAMILIES, holder: config.holder };
            // The lock first: nothing of a store that somebody else holds may be touched.
            let db = Db::open(&config.root.join("db"), options)?;
            let disk = Disk::open(&config.root, config.durability)?;
            let kept = disk.recover()?;
            let ingests: BTreeMap<_, _> = kept
                .into_iter()
                .map(|kept| (kept.reference.clone(), Arc::new(Open::new(kept, generation()))))
                .collect();
            let blobs = disk.blobs()?;
            let counts = (blobs.len(), ingests.len());
            tokio::runtime::Handle::current().block_on(reconcile(&db, blobs))?;
            tracing::info!(root = %config.root.display(), blobs = counts.0, ingests = counts.1, "content store opened");
            Ok(Arc::new(Self {
                disk,
                db,
                silence: config.writer_silence,
                ingests: Mutex::new(ingests),
                changes: watch::Sender::new(0),
            }))
        })
        .await
    }

    fn ingests(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Open>>> {
        self.ingests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn find(&self, reference: &str) -> Result<Arc<Open>, Status> {
        self.ingests().get(reference).cloned().ok_or_else(|| Status::not_found(format!("ingest {reference} not found")))
    }

    /// The ingest, if the caller is its writer. An ingest that went away was taken over or committed by somebody.
    fn written_by(&self, reference: &str, session: &str) -> Result<Arc<Open>, Status> {
        let open = self.find(reference).map_err(|status| Status::aborted(status.message))?;
        open.flight().check(session, Instant::now())?;
        Ok(open)
    }

    async fn has(&self, digest: &Digest) -> Result<bool, Status> {
        let path = self.disk.blob_path(digest);
        blocking(move || path.try_exists().map_err(|error| Status::io("look for", &path, &error))).await
    }

    async fn forget(&self, reference: &str) -> Result<(), Status> {
        let (disk, name) = (self.disk.clone(), reference.to_owned());
        blocking(move || disk.drop_ingest(&name)).await?;
        if let Some(open) = self.ingests().remove(reference) {
            open.rest();
        }
        self.changed();
        Ok(())
    }

    /// Finds or makes an ingest and gives the caller its seat. Answers whether another writer lost it.
    async fn seat(
        &self,
        reference: &str,
        expected: Option<Digest>,
        total: u64,
        session: &str,
    ) -> Result<(Arc<Open>, bool), Status> {
        let known = self.ingests().get(reference).cloned();
        if let Some(open) = known {
            let mut flight = open.flight();
            if let (Some(asked), Some(kept)) = (&expected, &flight.expected)
                && asked != kept
            {
                return Err(Status::failed_precondition(format!("ingest {reference} is for {kept}, not for {asked}")));
            }
            let lost = flight.sit(session, Instant::now(), self.silence)?;
            flight.expected = flight.expected.or(expected);
            flight.total = if flight.total == 0 { total } else { flight.total };
            drop(flight);
            return Ok((open, lost));
        }
        let (disk, name) = (self.disk.clone(), reference.to_owned());
        let kept = blocking(move || disk.begin(&name, expected.as_ref(), total)).await?;
        let mut ingests = self.ingests();
        if ingests.len() >= MAX_INGESTS && !ingests.contains_key(reference) {
            return Err(Status::resource_exhausted(format!(
                "there are {MAX_INGESTS} ingests already; finish or abort some"
            )));
        }
        // Another call may have made it meanwhile; the seat decides between us.
        let open =
            Arc::clone(ingests.entry(reference.to_owned()).or_insert_with(|| Arc::new(Open::new(kept, generation()))));
        drop(ingests);
        let lost = open.flight().sit(session, Instant::now(), self.silence)?;
        Ok((open, lost))
    }

    /// Makes the file ready for a new writer and answers where it goes on.
    async fn prepare(&self, open: &Arc<Open>, lost: bool) -> Result<u64, Status> {
        let (reference, total) = {
            let flight = open.flight();
            (flight.reference.clone(), flight.total)
        };
        let (disk, name) = (self.disk.clone(), reference.clone());
        let offset = blocking(move || {
            let path = disk.data_path(&name);
            let length = std::fs::metadata(&path).map_err(|error| Status::io("look at", &path, &error))?.len();
            if total > 0 && length > total {
                disk.restart(&name)?;
                return Ok(None);
            }
            if lost {
                disk.fork(&name, length)?;
            }
            disk.touch(&name);
            Ok(Some(length))
        })
        .await?;
        {
            let mut flight = open.flight();
            if lost || offset.is_none() {
                flight.restart(generation());
            }
            flight.written = offset.unwrap_or(0);
        }
        open.hash(&self.disk)?;
        self.changed();
        Ok(offset.unwrap_or(0))
    }

    /// The state of a digest's flight or of a ref, and what to wait on for news of it.
    async fn look(&self, digest: &Digest, reference: &str) -> Result<(msg::WatchBlobReply, Option<Arc<Open>>), Status> {
        let path = self.disk.blob_path(digest);
        let size = blocking(move || match std::fs::metadata(&path) {
            Ok(facts) => Ok(Some(facts.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Status::io("look for", &path, &error)),
        })
        .await?;
        let store_id = self.disk.store_id().to_owned();
        if let Some(size) = size {
            let path = self.disk.blob_path(digest).display().to_string();
            let mut reply = msg::WatchBlobReply { frontier: size, total: size, path, store_id, ..Default::default() };
            reply.set_state(State::Committed);
            return Ok((reply, None));
        }
        let open = {
            let ingests = self.ingests();
            let by_digest = || ingests.values().find(|open| open.expects(digest)).cloned();
            if reference.is_empty() { by_digest() } else { ingests.get(reference).cloned() }
        };
        let Some(open) = open else { return Ok((msg::WatchBlobReply { store_id, ..Default::default() }, None)) };
        let frontier = open.frontier();
        if let Some(status) = frontier.failed {
            return Err(status);
        }
        let (name, total) = {
            let flight = open.flight();
            (flight.reference.clone(), flight.total)
        };
        let mut reply = msg::WatchBlobReply {
            generation: frontier.generation,
            frontier: frontier.hashed,
            total,
            path: self.disk.data_path(&name).display().to_string(),
            store_id,
            ..Default::default()
        };
        reply.set_state(if open.is_active(self.silence) { State::Growing } else { State::Idle });
        Ok((reply, Some(open)))
    }

    fn stat(&self, digest: &Digest, stored: msg::StatBlobReply) -> msg::StatBlobReply {
        msg::StatBlobReply {
            digest: digest.to_string(),
            path: self.disk.blob_path(digest).display().to_string(),
            store_id: self.disk.store_id().to_owned(),
            ..stored
        }
    }
}

/// Makes the index agree with the files.
async fn reconcile(db: &Db, files: Vec<(Digest, u64, std::time::SystemTime)>) -> Result<(), Status> {
    db.write(move |txn| {
        let stored: BTreeMap<Digest, msg::StatBlobReply> =
            BLOBS.scan(txn, &(), None, usize::MAX)?.into_iter().collect();
        let files: BTreeMap<Digest, (u64, std::time::SystemTime)> =
            files.into_iter().map(|(d, s, t)| (d, (s, t))).collect();
        for digest in stored.keys().filter(|digest| !files.contains_key(digest)) {
            tracing::warn!(%digest, "the file of a blob is gone; forgetting it");
            BLOBS.delete(txn, digest);
        }
        for (digest, (size, modified)) in files {
            if stored.get(&digest).is_none_or(|blob| blob.size != size) {
                BLOBS.put(txn, &digest, &record(&digest, size, modified.into()));
            }
        }
        Ok(())
    })
    .await
}

fn record(digest: &Digest, size: u64, created_at: Time) -> msg::StatBlobReply {
    msg::StatBlobReply { digest: digest.to_string(), size, created_at: Some(created_at), ..Default::default() }
}

/// A generation: not 0, and not one that was ever used before, also not by an earlier process.
fn generation() -> u64 {
    u64::from_le_bytes(uuid::Uuid::new_v4().as_bytes().first_chunk().copied().unwrap_or([1; 8])).max(1)
}

fn optional(digest: &str) -> Result<Option<Digest>, Status> {
    if digest.is_empty() { Ok(None) } else { convert::digest(digest).map(Some) }
}

fn page(limit: u32) -> usize {
    if limit == 0 { PAGE } else { (limit as usize).min(MAX_PAGE) }
}

#[async_trait::async_trait]
impl Content for Service {
    async fn open_ingest(&self, request: msg::OpenIngestRequest) -> Result<msg::OpenIngestReply, Status> {
        if request.r#ref.is_empty() || request.r#ref.len() > 4096 {
            return Err(Status::invalid_argument("an ingest needs a ref of 1 to 4096 bytes"));
        }
        let expected = optional(&request.expected)?;
        if let Some(digest) = &expected
            && self.has(digest).await?
        {
            let idle = self.ingests().get(&request.r#ref).is_some_and(|open| !open.is_active(self.silence));
            if idle {
                self.forget(&request.r#ref).await?;
            }
            return Err(Status::already_exists(format!("blob {digest} exists")));
        }
        let session = uuid::Uuid::new_v4().to_string();
        let (open, lost) = self.seat(&request.r#ref, expected, request.total, &session).await?;
        let offset = match self.prepare(&open, lost).await {
            Ok(offset) => offset,
            Err(status) => {
                open.flight().stand();
                return Err(status);
            }
        };
        Ok(msg::OpenIngestReply {
            session,
            path: self.disk.data_path(&request.r#ref).display().to_string(),
            store_id: self.disk.store_id().to_owned(),
            offset,
        })
    }

    async fn advance_ingest(&self, request: msg::AdvanceIngestRequest) -> Result<msg::AdvanceIngestReply, Status> {
        let open = self.written_by(&request.r#ref, &request.session)?;
        if request.written == open.flight().written {
            return Ok(msg::AdvanceIngestReply {});
        }
        let path = self.disk.data_path(&request.r#ref);
        let length =
            blocking(move || Ok(std::fs::metadata(&path).map_err(|error| Status::io("look at", &path, &error))?.len()))
                .await?;
        open.flight().advance(request.written, length)?;
        if let Some(hasher) = open.hasher() {
            hasher.advance(request.written);
        }
        open.flush_early(&self.disk);
        Ok(msg::AdvanceIngestReply {})
    }

    async fn restart_ingest(&self, request: msg::RestartIngestRequest) -> Result<msg::RestartIngestReply, Status> {
        let open = self.written_by(&request.r#ref, &request.session)?;
        let (disk, name) = (self.disk.clone(), request.r#ref.clone());
        blocking(move || disk.restart(&name)).await?;
        open.flight().restart(generation());
        open.hash(&self.disk)?;
        Ok(msg::RestartIngestReply {})
    }

    async fn commit_ingest(&self, request: msg::CommitIngestRequest) -> Result<msg::CommitIngestReply, Status> {
        let expected = optional(&request.expected)?;
        let open = self.written_by(&request.r#ref, &request.session)?;
        open.flight().committing = true;
        let done = self.commit(&open, &request.r#ref, request.size, expected).await;
        let mut flight = open.flight();
        flight.committing = false;
        // A failed commit leaves the seat with its writer.
        drop(flight.check(&request.session, Instant::now()));
        done
    }

    async fn release_ingest(&self, request: msg::ReleaseIngestRequest) -> Result<msg::ReleaseIngestReply, Status> {
        let open = self.written_by(&request.r#ref, &request.session)?;
        open.flight().stand();
        open.rest();
        self.changed();
        Ok(msg::ReleaseIngestReply {})
    }

    async fn abort_ingest(&self, request: msg::AbortIngestRequest) -> Result<msg::AbortIngestReply, Status> {
        self.find(&request.r#ref)?;
        self.forget(&request.r#ref).await?;
        Ok(msg::AbortIngestReply {})
    }

    async fn list_ingests(&self, request: msg::ListIngestsRequest) -> Result<msg::ListIngestsReply, Status> {
        let limit = page(request.limit);
        let after = (std::ops::Bound::Excluded(request.after), std::ops::Bound::Unbounded);
        let mut ingests: Vec<msg::Ingest> = self
            .ingests()
            .range(after)
            .take(limit + 1)
            .map(|(name, open)| {
                let flight = open.flight().clone();
                msg::Ingest {
                    r#ref: name.clone(),
                    expected: flight.expected.map(|digest| digest.to_string()).unwrap_or_default(),
                    offset: flight.written,
                    total: flight.total,
                    started_at: time(&open.started_at),
                    updated_at: time(&open.started_at),
                    active: open.is_active(self.silence),
                }
            })
            .collect();
        let more = ingests.len() > limit;
        ingests.truncate(limit);
        let disk = self.disk.clone();
        blocking(move || {
            for ingest in &mut ingests {
                let modified = std::fs::metadata(disk.data_path(&ingest.r#ref)).and_then(|facts| facts.modified());
                ingest.updated_at = modified.ok().map(Time::from).or(ingest.updated_at);
            }
            Ok(msg::ListIngestsReply { ingests, more })
        })
        .await
    }

    async fn watch_blob(&self, request: msg::WatchBlobRequest) -> Result<msg::WatchBlobReply, Status> {
        let digest = convert::digest(&request.digest)?;
        let wait = Duration::from_millis(u64::from(request.wait_ms)).min(MAX_WAIT);
        let deadline = tokio::time::Instant::now() + wait;
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let (reply, open) = self.look(&digest, &request.r#ref).await?;
            let same = (reply.generation, reply.frontier) == (request.generation, request.frontier);
            if reply.state() == State::Committed || !same || tokio::time::Instant::now() >= deadline {
                return Ok(reply);
            }
            let seen = (request.generation, request.frontier);
            let moved = async {
                let Some(open) = &open else { return std::future::pending().await };
                let mut news = open.news.subscribe();
                let Some(hasher) = open.hasher() else { return drop(news.changed().await) };
                let mut frontier = hasher.frontier();
                let differs = frontier.wait_for(|now| now.failed.is_some() || (now.generation, now.hashed) != seen);
                tokio::select! {
                    _ = differs => {}
                    _ = news.changed() => {}
                }
            };
            tokio::select! {
                () = moved => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    async fn stat_blob(&self, request: msg::StatBlobRequest) -> Result<msg::StatBlobReply, Status> {
        let digest = convert::digest(&request.digest)?;
        let stored = self.db.read(move |view| BLOBS.get(view, &digest)).await?;
        let stored = stored.ok_or_else(|| Status::not_found(format!("blob {digest} not found")))?;
        Ok(self.stat(&digest, stored))
    }

    async fn list_blobs(&self, request: msg::ListBlobsRequest) -> Result<msg::ListBlobsReply, Status> {
        let after = optional(&request.after)?;
        let limit = page(request.limit);
        let mut rows = self.db.read(move |view| BLOBS.scan(view, &(), after.as_ref(), limit + 1)).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let blobs = rows.into_iter().map(|(digest, stored)| self.stat(&digest, stored)).collect();
        Ok(msg::ListBlobsReply { blobs, more })
    }

    async fn delete_blob(&self, request: msg::DeleteBlobRequest) -> Result<msg::DeleteBlobReply, Status> {
        let digest = convert::digest(&request.digest)?;
        let not_after = *convert::required(request.not_after.as_ref(), "not_after")?;
        if Time::now().millis() >= not_after.millis() {
            return Err(Status::failed_precondition(format!("the leave to delete {digest} ended at {not_after}")));
        }
        let disk = self.disk.clone();
        let freed = blocking(move || match disk.delete_blob(&digest) {
            Err(status) if status.code == Code::NotFound => Err(Status::not_found(format!("blob {digest} not found"))),
            done => done,
        })
        .await?;
        self.db
            .write(move |txn| {
                BLOBS.delete(txn, &digest);
                Ok::<_, Status>(())
            })
            .await?;
        self.changed();
        Ok(msg::DeleteBlobReply { freed })
    }
}

impl Service {
    async fn commit(
        &self,
        open: &Arc<Open>,
        reference: &str,
        size: u64,
        expected: Option<Digest>,
    ) -> Result<msg::CommitIngestReply, Status> {
        let flight = open.flight().clone();
        let hasher = open.hasher().ok_or_else(|| Status::aborted(format!("ingest {reference} is not being hashed")))?;
        let digest = hasher.digest(flight.generation, flight.written).await?;
        flight.verify(size, expected.as_ref(), flight.written, &digest)?;
        let (disk, name) = (self.disk.clone(), reference.to_owned());
        let length = flight.written;
        let published = blocking(move || {
            let path = disk.data_path(&name);
            let found = std::fs::metadata(&path).map_err(|error| Status::io("look at", &path, &error))?.len();
            if found != length {
                return Err(Status::failed_precondition(format!(
                    "ingest {name} has {found} bytes, {length} were reported"
                )));
            }
            disk.publish(&name, &digest)
        })
        .await?;
        // Not waited for: the file is the truth, and every start makes the index agree with it.
        self.db
            .write_relaxed(move |txn| {
                if !BLOBS.contains(txn, &digest)? {
                    BLOBS.put(txn, &digest, &record(&digest, length, Time::now()));
                }
                Ok::<_, Status>(())
            })
            .await?;
        self.ingests().remove(reference);
        open.rest();
        self.changed();
        if published {
            Ok(msg::CommitIngestReply { digest: digest.to_string(), size: length })
        } else {
            Err(Status::already_exists(format!("blob {digest} exists")))
        }
    }
}
