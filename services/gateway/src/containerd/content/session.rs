//! One writer of one ref: what it may do, and what it is told.
//!
//! Two kinds: an ingest of the content service; or, if the bytes are known by another namespace, nothing but the promise to
//! record them here. Such a promise becomes an ingest, a copy of the blob, when something is written to it after all.

use std::{sync::Arc, time::Duration};

use berth_api::{content::BlobWriter, holding::Holding};
use berth_model::{Code, Digest, Status, labels, labels::Labels};
use berth_wire::{containerd::content as api, content::StatBlobRequest, convert, metadata as msg, types::Time};
use bytes::Bytes;
use futures::StreamExt as _;

use super::{Scope, ingests, plugin, sharing, signed, timestamp};
use crate::{Backend, blob, containerd::convert::size};

/// A writer's place.
pub(super) struct Session {
    namespace: String,
    reference: String,
    expected: Option<Digest>,
    /// 0: not known.
    total: u64,
    started_at: Time,
    updated_at: Time,
    place: Place,
}

/// Where the bytes are.
enum Place {
    /// In an ingest of ours.
    Ingest(Box<BlobWriter>),
    /// In a blob that is there.
    Known(Digest, u64),
}

impl Session {
    /// Takes the place of the ref that the first message names.
    pub(super) async fn begin(
        backend: &Backend,
        scope: &Scope,
        first: &api::WriteContentRequest,
    ) -> Result<Self, Status> {
        if first.r#ref.is_empty() {
            return Err(Status::invalid_argument("the first message of a writer must have a ref"));
        }
        let expected = digest(&first.expected)?;
        let total = size("total", first.total)?;
        scope.check_lease(backend).await?;
        refuse_known(backend, scope, &first.r#ref, expected).await?;
        let known = match expected {
            Some(digest) => sharing::lent(backend, scope, &digest, total).await?,
            None => None,
        };
        let now = Time::now();
        let mut session = Self {
            namespace: scope.namespace.clone(),
            reference: first.r#ref.clone(),
            expected,
            total,
            started_at: now,
            updated_at: now,
            place: Place::Known(Digest::of(b""), 0),
        };
        match known {
            Some((digest, size)) => {
                session.total = size;
                session.place = Place::Known(digest, size);
            }
            None => {
                scope.protect(backend, "ingests", &session.reference).await?;
                session.open(backend, expected, total).await?;
                if let Some(expected) = expected {
                    session.drop_wrong(backend, &expected).await?;
                }
            }
        }
        Ok(session)
    }

    /// Opens the ingest, or the one that is there.
    async fn open(&mut self, backend: &Backend, expected: Option<Digest>, total: u64) -> Result<(), Status> {
        let name = ingests::global(&self.namespace, &self.reference);
        let open = |expected| open_soon(backend, &name, expected, total);
        let opened = match open(expected.as_ref()).await {
            // The bytes are there, and may not be shared: they have to come once more.
            Err(status) if status.code == Code::AlreadyExists => open(None).await,
            // What is there was to become something else.
            Err(status) if status.code == Code::FailedPrecondition => {
                ingests::drop_if_there(backend, &self.namespace, &self.reference).await?;
                open(expected.as_ref()).await
            }
            opened => opened,
        };
        let writer = opened.map_err(|status| ingests::local(&self.namespace, status))?;
        let found = ingests::stat(backend, &self.namespace, &self.reference).await?;
        self.started_at = found.started_at.unwrap_or(self.started_at);
        self.updated_at = found.updated_at.unwrap_or(self.started_at);
        self.total = if self.total == 0 { found.total } else { self.total };
        self.place = Place::Ingest(Box::new(writer));
        Ok(())
    }

    /// All bytes are there, and they are others: nothing that follows makes them right. Whoever comes next would go on from
    /// their end, and fail again.
    async fn drop_wrong(&mut self, backend: &Backend, expected: &Digest) -> Result<(), Status> {
        let whole = self.total > 0 && self.offset() >= self.total;
        if whole && self.digest().await? != *expected {
            tracing::info!(reference = self.reference, %expected, "what an earlier writer left is not what is expected; dropped");
            self.begin_anew(backend).await?;
        }
        Ok(())
    }

    /// Takes in what a later message says of the blob.
    pub(super) async fn learn(
        &mut self,
        backend: &Backend,
        scope: &Scope,
        message: &api::WriteContentRequest,
    ) -> Result<(), Status> {
        if !message.r#ref.is_empty() && message.r#ref != self.reference {
            return Err(Status::invalid_argument(format!(
                "a writer of ref {:?} cannot go on with ref {:?}",
                self.reference, message.r#ref
            )));
        }
        if let Some(expected) = digest(&message.expected)? {
            self.expected = Some(expected);
            refuse_known(backend, scope, &self.reference, Some(expected)).await?;
        }
        match size("total", message.total)? {
            0 => {}
            total => self.total = total,
        }
        Ok(())
    }

    /// Says that the writer is there.
    pub(super) async fn alive(&mut self) -> Result<(), Status> {
        match &mut self.place {
            Place::Ingest(writer) => writer.flush().await.map_err(|status| ingests::local(&self.namespace, status)),
            Place::Known(..) => Ok(()),
        }
    }

    fn offset(&self) -> u64 {
        match &self.place {
            Place::Ingest(writer) => writer.offset(),
            Place::Known(_, size) => *size,
        }
    }

    async fn digest(&mut self) -> Result<Digest, Status> {
        match &mut self.place {
            Place::Ingest(writer) => writer.digest().await.map_err(|status| ingests::local(&self.namespace, status)),
            Place::Known(digest, _) => Ok(*digest),
        }
    }

    /// How far it is.
    pub(super) async fn stat(&mut self) -> Result<api::WriteContentResponse, Status> {
        let digest = self.digest().await?;
        Ok(self.answer(&digest))
    }

    fn answer(&self, digest: &Digest) -> api::WriteContentResponse {
        api::WriteContentResponse {
            started_at: timestamp(Some(self.started_at)),
            updated_at: timestamp(Some(self.updated_at)),
            offset: signed(self.offset()),
            total: signed(self.total),
            digest: digest.to_string(),
            ..api::WriteContentResponse::default()
        }
    }

    /// Writes the data of a message. At 0 it begins anew, elsewhere it must go on where the last one ended: OUT_OF_RANGE.
    pub(super) async fn write(&mut self, backend: &Backend, message: &api::WriteContentRequest) -> Result<(), Status> {
        let (offset, here) = (size("offset", message.offset)?, self.offset());
        if offset > 0 && offset != here {
            return Err(Status::out_of_range(format!(
                "write at {offset} must be at the current offset {here} of ref {:?}",
                self.reference
            )));
        }
        let only_commit = message.action() == api::WriteAction::Commit && message.data.is_empty();
        if offset == 0 && here > 0 && !only_commit {
            self.begin_anew(backend).await?;
        }
        if message.data.is_empty() {
            return Ok(());
        }
        if let Place::Known(digest, _) = &self.place {
            let digest = *digest;
            self.copy(backend, &digest).await?;
        }
        if let Place::Ingest(writer) = &mut self.place {
            let written = writer.write(Bytes::copy_from_slice(&message.data)).await;
            written.map_err(|status| ingests::local(&self.namespace, status))?;
            self.updated_at = Time::now();
        }
        Ok(())
    }

    async fn begin_anew(&mut self, backend: &Backend) -> Result<(), Status> {
        if let Place::Known(..) = &self.place {
            // What comes of it may be something else; what is promised counts when it is committed.
            self.open(backend, None, 0).await?;
        }
        if let Place::Ingest(writer) = &mut self.place {
            writer.restart().await.map_err(|status| ingests::local(&self.namespace, status))?;
            self.updated_at = Time::now();
        }
        Ok(())
    }

    /// Something is to be added to a blob that is there: an ingest that begins with its bytes.
    async fn copy(&mut self, backend: &Backend, digest: &Digest) -> Result<(), Status> {
        const PIECE: usize = 1 << 20;
        let part = blob::whole(backend, digest).await?;
        self.begin_anew(backend).await?;
        let mut pieces = std::pin::pin!(part.pieces(PIECE));
        if let Place::Ingest(writer) = &mut self.place {
            while let Some(piece) = pieces.next().await {
                writer.write(Bytes::from(piece?)).await.map_err(|status| ingests::local(&self.namespace, status))?;
            }
        }
        Ok(())
    }

    /// Makes it a blob of the namespace. ALREADY_EXISTS: it is one. FAILED_PRECONDITION: size or digest are others.
    pub(super) async fn commit(
        &mut self,
        backend: &Backend,
        scope: &Scope,
        labels: Labels,
    ) -> Result<api::WriteContentResponse, Status> {
        labels::check(&labels)?;
        let (digest, offset) = (self.digest().await?, self.offset());
        self.verify(&digest, offset)?;
        refuse_known(backend, scope, &self.reference, Some(digest)).await?;
        // From here on nobody deletes it.
        let (metadata, lease) = (Arc::clone(&backend.metadata), scope.lease.as_deref().unwrap_or_default());
        let holding = Holding::begin(metadata, &self.namespace, lease, &digest).await?;
        let kept = self.commit_and_record(backend, scope, &digest, offset, labels).await;
        holding.end().await;
        kept?;
        scope.let_go(backend, "ingests", &self.reference).await;
        self.total = offset;
        self.place = Place::Known(digest, offset);
        Ok(self.answer(&digest))
    }

    async fn commit_and_record(
        &mut self,
        backend: &Backend,
        scope: &Scope,
        digest: &Digest,
        size: u64,
        labels: Labels,
    ) -> Result<(), Status> {
        if let Place::Ingest(writer) = &mut self.place {
            writer.commit(size, digest).await.map_err(|status| ingests::local(&self.namespace, status))?;
        }
        self.record(backend, scope, digest, size, labels).await
    }

    fn verify(&self, digest: &Digest, offset: u64) -> Result<(), Status> {
        if self.total > 0 && offset != self.total {
            return Err(Status::failed_precondition(format!(
                "unexpected commit size {offset}, expected {} for ref {:?}",
                self.total, self.reference
            )));
        }
        if self.expected.is_some_and(|expected| expected != *digest) {
            let expected = self.expected.map(|expected| expected.to_string()).unwrap_or_default();
            return Err(Status::failed_precondition(format!(
                "unexpected commit digest {digest}, expected {expected} for ref {:?}",
                self.reference
            )));
        }
        Ok(())
    }

    /// Records the blob in the namespace. One that was there when the writer was opened may have been deleted before it
    /// was held: UNAVAILABLE, and writing it again will do.
    async fn record(
        &self,
        backend: &Backend,
        scope: &Scope,
        digest: &Digest,
        size: u64,
        labels: Labels,
    ) -> Result<(), Status> {
        let entry = msg::put_content_request::Entry {
            digest: digest.to_string(),
            size,
            labels: plugin::stored(&self.namespace, labels),
            ..msg::put_content_request::Entry::default()
        };
        let (namespace, lease) = (self.namespace.clone(), scope.lease.clone().unwrap_or_default());
        let put = msg::PutContentRequest { namespace, entries: vec![entry], lease };
        backend.metadata.put_content(put).await?;
        match backend.content.stat_blob(StatBlobRequest { digest: digest.to_string() }).await {
            Err(status) if status.code == Code::NotFound => {
                let delete =
                    msg::DeleteContentRequest { namespace: self.namespace.clone(), digest: digest.to_string() };
                backend.metadata.delete_content(delete).await?;
                Err(Status::unavailable(format!("blob {digest} was deleted meanwhile; write it again")))
            }
            found => found.map(|_| ()),
        }
    }

    /// Gives the place up; the bytes stay.
    pub(super) async fn release(self) {
        if let Place::Ingest(writer) = self.place
            && let Err(status) = writer.release().await
        {
            tracing::debug!(%status, "a writer's place was not given up; it will be free by itself");
        }
    }
}

/// Opens an ingest; if somebody writes it, tries again for half a second. A client that closed its stream does not wait
/// until we have seen that before it comes back.
async fn open_soon(backend: &Backend, name: &str, expected: Option<&Digest>, total: u64) -> Result<BlobWriter, Status> {
    const FIRST: Duration = Duration::from_millis(1);
    const LAST: Duration = Duration::from_millis(256);
    let mut wait = FIRST;
    loop {
        match BlobWriter::open(Arc::clone(&backend.content), name, expected, total).await {
            Err(status) if status.code == Code::Unavailable && wait <= LAST => tokio::time::sleep(wait).await,
            opened => return opened,
        }
        wait *= 2;
    }
}

fn digest(text: &str) -> Result<Option<Digest>, Status> {
    if text.is_empty() { Ok(None) } else { convert::digest(text).map(Some) }
}

/// ALREADY_EXISTS if the blob is one of the namespace: then nothing is left of the ingest, and the lease has the blob.
async fn refuse_known(backend: &Backend, scope: &Scope, reference: &str, digest: Option<Digest>) -> Result<(), Status> {
    let Some(digest) = digest else { return Ok(()) };
    let get = msg::GetContentRequest { namespace: scope.namespace.clone(), digest: digest.to_string() };
    match backend.metadata.get_content(get).await {
        Err(status) if status.code == Code::NotFound => return Ok(()),
        found => found?,
    };
    scope.protect(backend, "content", &digest.to_string()).await?;
    ingests::drop_if_there(backend, &scope.namespace, reference).await?;
    scope.let_go(backend, "ingests", reference).await;
    Err(Status::already_exists(format!("content {digest} already exists")))
}
