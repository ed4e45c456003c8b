//! The content contract, small: files in a temporary directory, everything else in memory.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use berth_api::content::{Content, STORE_ID_FILE};
use berth_model::{Digest, Status};
use berth_wire::content::{self as msg, watch_blob_reply::State};

/// A writer silent for so long may be replaced.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    pub(crate) expected: String,
    pub(crate) session: Option<String>,
    pub(crate) written: u64,
    generation: u64,
    alive: Instant,
}

#[derive(Default)]
struct Inner {
    ingests: HashMap<String, Ingest>,
    blobs: HashMap<String, u64>,
    sessions: u64,
}

pub(crate) struct Store {
    dir: tempfile::TempDir,
    state: Mutex<Inner>,
    looks: AtomicUsize,
    advances: AtomicUsize,
    is_old: AtomicBool,
}

impl Store {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(STORE_ID_FILE), "tests").unwrap();
        Self {
            dir,
            state: Mutex::default(),
            looks: AtomicUsize::new(0),
            advances: AtomicUsize::new(0),
            is_old: AtomicBool::new(false),
        }
    }

    pub(crate) fn ingest(&self, reference: &str) -> Option<Ingest> {
        self.state.lock().unwrap().ingests.get(reference).cloned()
    }

    /// How often somebody asked what becomes of a blob.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// From now on it does not learn from a commit how much was written.
    pub(crate) fn be_old(&self) {
        self.is_old.store(true, Ordering::Relaxed);
    }

    /// How often somebody told how far an ingest is.
    pub(crate) fn advances(&self) -> usize {
        self.advances.load(Ordering::Relaxed)
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.state.lock().unwrap().blobs.contains_key(&digest.to_string())
    }

    fn path(&self, reference: &str, generation: u64) -> PathBuf {
        self.dir.path().join(format!("{}-{generation}", reference.replace([':', '/'], "_")))
    }

    fn alive<R>(&self, reference: &str, session: &str, act: impl FnOnce(&mut Ingest) -> R) -> Result<R, Status> {
        let mut state = self.state.lock().unwrap();
        match state.ingests.get_mut(reference) {
            Some(ingest) if ingest.session.as_deref() == Some(session) => {
                ingest.alive = Instant::now();
                Ok(act(ingest))
            }
            _ => Err(Status::aborted("not the writer")),
        }
    }
}

#[async_trait]
impl Content for Store {
    async fn open_ingest(&self, request: msg::OpenIngestRequest) -> Result<msg::OpenIngestReply, Status> {
        let mut state = self.state.lock().unwrap();
        if state.blobs.contains_key(&request.expected) {
            return Err(Status::already_exists("blob"));
        }
        state.sessions += 1;
        let session = state.sessions.to_string();
        let ingest = state.ingests.entry(request.r#ref.clone()).or_insert(Ingest {
            expected: request.expected,
            session: None,
            written: 0,
            generation: 1,
            alive: Instant::now(),
        });
        if ingest.session.is_some() && ingest.alive.elapsed() < SILENCE {
            return Err(Status::unavailable("another writer"));
        }
        ingest.session = Some(session.clone());
        ingest.alive = Instant::now();
        let path = self.path(&request.r#ref, ingest.generation);
        std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        Ok(msg::OpenIngestReply {
            session,
            path: path.display().to_string(),
            store_id: "tests".to_owned(),
            offset: ingest.written,
            commit_advances: !self.is_old.load(Ordering::Relaxed),
            yours_for_ms: SILENCE.as_millis() as u64,
        })
    }

    async fn advance_ingest(&self, request: msg::AdvanceIngestRequest) -> Result<msg::AdvanceIngestReply, Status> {
        self.advances.fetch_add(1, Ordering::Relaxed);
        self.alive(&request.r#ref, &request.session, |ingest| ingest.written = request.written)?;
        Ok(msg::AdvanceIngestReply {})
    }

    async fn restart_ingest(&self, request: msg::RestartIngestRequest) -> Result<msg::RestartIngestReply, Status> {
        self.alive(&request.r#ref, &request.session, |ingest| {
            let old = self.path(&request.r#ref, ingest.generation);
            ingest.generation += 1;
            ingest.written = 0;
            // The writer keeps the ticket's path; a new generation is a new file there.
            std::fs::remove_file(&old).unwrap();
            std::fs::write(&old, b"").unwrap();
            std::fs::write(self.path(&request.r#ref, ingest.generation), b"").unwrap();
        })?;
        Ok(msg::RestartIngestReply {})
    }

    async fn commit_ingest(&self, request: msg::CommitIngestRequest) -> Result<msg::CommitIngestReply, Status> {
        let first = self.path(&request.r#ref, 1);
        let bytes = std::fs::read(first).unwrap();
        let told = if self.is_old.load(Ordering::Relaxed) { 0 } else { request.written };
        let written = self.alive(&request.r#ref, &request.session, |ingest| ingest.written.max(told))?;
        let bytes = &bytes[..written as usize];
        let digest = Digest::of(bytes).to_string();
        if digest != request.expected || request.size != written {
            return Err(Status::failed_precondition("unexpected commit digest"));
        }
        let mut state = self.state.lock().unwrap();
        state.ingests.remove(&request.r#ref);
        state.blobs.insert(digest.clone(), written);
        Ok(msg::CommitIngestReply { digest, size: written, place: None })
    }

    async fn release_ingest(&self, request: msg::ReleaseIngestRequest) -> Result<msg::ReleaseIngestReply, Status> {
        self.alive(&request.r#ref, &request.session, |ingest| ingest.session = None)?;
        Ok(msg::ReleaseIngestReply {})
    }

    async fn watch_blob(&self, request: msg::WatchBlobRequest) -> Result<msg::WatchBlobReply, Status> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + Duration::from_millis(request.wait_ms.into());
        loop {
            let news = {
                let state = self.state.lock().unwrap();
                let ingest = state.ingests.values().find(|ingest| ingest.expected == request.digest);
                match (state.blobs.get(&request.digest), ingest) {
                    (Some(size), _) => {
                        msg::WatchBlobReply { state: State::Committed.into(), frontier: *size, ..Default::default() }
                    }
                    (None, Some(ingest)) => {
                        let active = ingest.session.is_some() && ingest.alive.elapsed() < SILENCE;
                        msg::WatchBlobReply {
                            state: if active { State::Growing } else { State::Idle }.into(),
                            generation: ingest.generation,
                            frontier: ingest.written,
                            ..Default::default()
                        }
                    }
                    (None, None) => msg::WatchBlobReply::default(),
                }
            };
            let same = news.state() == State::Growing
                && (news.generation, news.frontier) == (request.generation, request.frontier);
            if !same || Instant::now() >= until {
                return Ok(news);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stat_blob(&self, request: msg::StatBlobRequest) -> Result<msg::StatBlobReply, Status> {
        let state = self.state.lock().unwrap();
        let size = *state.blobs.get(&request.digest).ok_or_else(|| Status::not_found("blob"))?;
        Ok(msg::StatBlobReply { digest: request.digest, size, ..Default::default() })
    }

    async fn stat_blobs(&self, _: msg::StatBlobsRequest) -> Result<msg::StatBlobsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn abort_ingest(&self, _: msg::AbortIngestRequest) -> Result<msg::AbortIngestReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_ingests(&self, _: msg::ListIngestsRequest) -> Result<msg::ListIngestsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_blobs(&self, _: msg::ListBlobsRequest) -> Result<msg::ListBlobsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn delete_blob(&self, _: msg::DeleteBlobRequest) -> Result<msg::DeleteBlobReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn delete_blobs(&self, _: msg::DeleteBlobsRequest) -> Result<msg::DeleteBlobsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn check_blobs(&self, _: msg::CheckBlobsRequest) -> Result<msg::CheckBlobsReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn measure_store(&self, _: msg::MeasureStoreRequest) -> Result<msg::MeasureStoreReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn hash_ingest(&self, _: msg::HashIngestRequest) -> Result<msg::HashIngestReply, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn stat_ingest(&self, _: msg::StatIngestRequest) -> Result<msg::Ingest, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}
