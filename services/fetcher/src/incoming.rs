//! How a large blob comes: by one connection, or in pieces by several.

use std::sync::Arc;

use berth_model::{Descriptor, Reference, Status};
use bytes::Bytes;
use http::Method;

use crate::{
    access::Access,
    auth::vault::Key,
    body::Body,
    client::RegistryClient,
    errand::{Errand, Object, authority},
    failure::Failure,
    pieces::{Pieces, Source},
    range::Part,
    transport::Hop,
};

/// How a blob may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// In pieces by several connections.
    Pieces,
    /// By one connection for a stretch.
    Alone,
    /// By one connection to its end.
    Rest,
}

/// How a blob comes.
pub(crate) enum Incoming {
    /// All that is missing of it.
    Rest(Box<Body>),
    Pieces(Box<Pieces>),
}

impl Incoming {
    /// The next bytes, in order.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Rest(body) => body.chunk().await,
            Self::Pieces(pieces) => pieces.chunk().await,
        }
    }

    /// `host:port` of who sends it.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Rest(body) => body.host(),
            Self::Pieces(pieces) => pieces.host(),
        }
    }

    /// Whether all that was asked for came, though it is not all that is missing.
    pub(crate) fn may_go_on(&self) -> bool {
        matches!(self, Self::Pieces(pieces) if pieces.are_over())
    }
}

impl RegistryClient {
    /// Whether there are places that nobody else may soon want.
    pub(crate) fn has_spare(&self) -> bool {
        self.places.available_permits() > self.options.large_downloads / 2
    }

    /// Opens a blob at an offset, as large ones may come now: in pieces only if its server is far and much is missing.
    pub(crate) async fn incoming(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        reference: &Reference,
        access: &Access,
        offset: u64,
        manner: Manner,
    ) -> Result<Incoming, Status> {
        let errand = Errand { reference, access, object: Object::Blob(descriptor.digest) };
        let base = self.base(&errand).await?;
        let registry = authority(&base);
        let alone = manner == Manner::Alone || !self.has_spare();
        let length = if alone { self.options.stretch_bytes } else { self.options.piece_bytes };
        let until = offset.saturating_add(length);
        let whole = manner == Manner::Rest || self.options.pieces == 1 || until >= descriptor.size;
        if whole || !self.transport.hosts.is_far(&registry) {
            return Ok(Incoming::Rest(Box::new(self.open(descriptor, reference, access, offset).await?)));
        }
        let part = Part { from: offset, until: Some(until) };
        let opened = self.open_part(descriptor, reference, access, part).await?;
        if opened.until != Some(until) {
            return Ok(Incoming::Rest(Box::new(opened.body)));
        }
        let url = opened.body.url().clone();
        let hop = Hop { part, elsewhere: opened.elsewhere, large: true, ..Hop::new(Method::GET, url) };
        let key = Key::of(&base, &errand);
        let source = Source { client: Arc::clone(self), registry, key, question: hop, size: descriptor.size };
        let most = if manner == Manner::Alone { 1 } else { self.options.pieces };
        Ok(Incoming::Pieces(Box::new(Pieces::begin(source, opened.body, most))))
    }
}
