//! A large blob of a server that is far, in pieces by several connections at once.
//!
//! One connection brings at most a window of TCP in a round trip, less where packets get lost, and less again where a
//! storage host gives each connection its share. Pieces are handed on in order, as their bytes are hashed and unpacked while
//! they arrive; what comes before its turn waits in memory. Nothing is asked twice here: whatever goes wrong ends it, and
//! whoever reads goes on with one connection where it ended.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime},
};

use berth_model::{Descriptor, Reference, Status};
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tracing::Instrument as _;
use url::Url;

use crate::{
    access::Access,
    auth::vault::Key,
    body::Body,
    client::RegistryClient,
    errand::{Errand, Object, authority},
    failure::{Failure, FailureKind},
    range::{Begins, Part, begins},
    retry::retry_after,
    transport::Hop,
};

/// Chunks of one piece that may wait; more than a piece has, unless they are very small.
const CHUNKS: usize = 1024;

/// How a blob may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// In pieces at once.
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
            Self::Pieces(pieces) => authority(&pieces.question.url),
        }
    }

    /// Whether all that was asked for came, though it is not all that is missing.
    pub(crate) fn may_go_on(&self) -> bool {
        matches!(self, Self::Pieces(pieces) if pieces.left == 0 && pieces.ahead.is_empty())
    }
}

pub(crate) struct Pieces {
    client: Arc<RegistryClient>,
    /// As the first piece was asked for, where it was in the end.
    question: Hop,
    /// `host:port` of the registry.
    registry: String,
    key: Key,
    size: u64,
    /// Here begins what nobody was asked for yet.
    next: u64,
    /// Pieces that come at once, at most.
    most: usize,
    /// So many that may come. A piece gives its turn back before its last bytes came.
    turns: Arc<Semaphore>,
    /// That of the first one.
    turn: Option<OwnedSemaphorePermit>,
    /// One for each piece that comes, but for one: the whole download has one too.
    places: Vec<OwnedSemaphorePermit>,
    reading: Reading,
    /// Bytes that are still to come of the piece that is read.
    left: u64,
    /// Bytes that were handed on.
    given: u64,
    ahead: VecDeque<Ahead>,
    /// One for each piece ahead; they end with this.
    tasks: JoinSet<()>,
}

enum Reading {
    First(Box<Body>),
    Later(mpsc::Receiver<Result<Bytes, Failure>>),
}

impl Reading {
    /// The next bytes. Nothing is lost if it is given up while it waits.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::First(body) => body.chunk().await,
            Self::Later(bytes) => bytes.recv().await.transpose(),
        }
    }
}

/// A piece that is not read yet.
struct Ahead {
    bytes: mpsc::Receiver<Result<Bytes, Failure>>,
    length: u64,
}

/// So much of a piece has not come when the next one is asked for. Pieces that share a link end at about the same time, and
/// it would rest until others begin.
fn last_part(piece: u64) -> u64 {
    piece / 4
}

impl RegistryClient {
    /// Whether there are places that nobody else may soon want.
    fn has_spare(&self) -> bool {
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
        let by_one = manner == Manner::Alone || !self.has_spare();
        let length = if by_one { self.options.stretch_bytes } else { self.options.piece_bytes };
        let until = offset.saturating_add(length);
        let errand = Errand { reference, access, object: Object::Blob(descriptor.digest) };
        let base = self.base(&errand).await?;
        let in_pieces = manner != Manner::Rest && self.options.pieces > 1 && until < descriptor.size;
        if !in_pieces || !self.transport.hosts.is_far(&authority(&base)) {
            return Ok(Incoming::Rest(Box::new(self.open(descriptor, reference, access, offset).await?)));
        }
        let part = Part { from: offset, until: Some(until) };
        let opened = self.open_part(descriptor, reference, access, part).await?;
        if opened.until != Some(until) {
            return Ok(Incoming::Rest(Box::new(opened.body)));
        }
        let (url, elsewhere) = (opened.body.url().clone(), opened.elsewhere);
        let most = if manner == Manner::Alone { 1 } else { self.options.pieces };
        let turns = Arc::new(Semaphore::new(most));
        Ok(Incoming::Pieces(Box::new(Pieces {
            client: Arc::clone(self),
            registry: authority(&base),
            question: Hop { part, elsewhere, large: true, ..Hop::new(Method::GET, url) },
            key: Key::of(&base, &errand),
            size: descriptor.size,
            next: until,
            most,
            turn: Arc::clone(&turns).try_acquire_owned().ok(),
            turns,
            places: Vec::new(),
            reading: Reading::First(Box::new(opened.body)),
            left: length,
            given: 0,
            ahead: VecDeque::new(),
            tasks: JoinSet::new(),
        })))
    }

    /// Asks once for a piece, and hands it on as it comes.
    async fn piece(
        &self,
        turn: OwnedSemaphorePermit,
        mut hop: Hop,
        registry: &str,
        key: Key,
        size: u64,
        bytes: &mpsc::Sender<Result<Bytes, Failure>>,
    ) -> Result<(), Failure> {
        if !hop.elsewhere {
            hop.authorization = self.vault.known(&key).await;
        }
        let response = self.transport.once(&hop).await?.response;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let asked = retry_after(response.headers(), SystemTime::now()).unwrap_or(self.options.throttled_min);
            // Who asks again hears of a longer one himself.
            if asked <= self.options.retry_after_max {
                for host in [registry, &authority(&hop.url)] {
                    self.pace.hold(host, Instant::now() + asked);
                }
            }
        }
        let served = match status {
            StatusCode::PARTIAL_CONTENT => begins(status, response.headers(), hop.part, size),
            _ => Begins::Lies,
        };
        if served != (Begins::There { until: hop.part.until.unwrap_or(size) }) {
            return Err(Failure::new(
                FailureKind::Piece(status),
                response.url(),
                format!("answered {status} to a question for a part of a blob"),
            ));
        }
        let (url, mut left) = (response.url().clone(), hop.part.until.unwrap_or(size).saturating_sub(hop.part.from));
        let (mut body, mut turn, last) = (Body::new(response, 0, &self.options), Some(turn), last_part(left));
        while let Some(chunk) = body.chunk().await? {
            // It waits in memory, so nothing may come that was not asked for.
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| too_much(&url))?;
            turn = turn.filter(|_| left > last);
            if bytes.send(Ok(chunk)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn too_much(url: &Url) -> Failure {
    Failure::new(FailureKind::Piece(StatusCode::PARTIAL_CONTENT), url, "sent more than it was asked for")
}

impl Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            self.ask_ahead();
            let all_come = self.turns.available_permits() == 0;
            let arrived = tokio::select! {
                arrived = self.reading.chunk() => arrived,
                _turn = self.turns.acquire(), if all_come => continue,
            };
            let chunk = match arrived {
                // Who opens it anew is let in anew. Unless that is of little use.
                Err(failure) if failure.is_stale() && self.given >= self.client.options.stretch_bytes => {
                    tracing::debug!(detail = failure.detail, "asking the registry anew");
                    self.end();
                    return Ok(None);
                }
                other => other?,
            };
            if let Some(chunk) = chunk {
                let left = self.left.checked_sub(chunk.len() as u64);
                self.left = left.ok_or_else(|| too_much(&self.question.url))?;
                self.given += chunk.len() as u64;
                if self.left <= last_part(self.client.options.piece_bytes) {
                    self.turn = None;
                }
                return Ok(Some(chunk));
            }
            if self.left > 0 {
                return Ok(None);
            }
            let Some(next) = self.ahead.pop_front() else { return Ok(None) };
            (self.reading, self.left) = (Reading::Later(next.bytes), next.length);
        }
    }

    /// Takes what was handed on for all that was asked for.
    fn end(&mut self) {
        self.left = 0;
        self.ahead.clear();
        self.tasks.abort_all();
    }

    /// Has as many pieces come as there are places for.
    fn ask_ahead(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        loop {
            let others = self.most - self.turns.available_permits();
            self.places.truncate(others.saturating_sub(1));
            // What came waits in memory, so this is twice of what comes, and no more.
            if self.most == 1 || self.next >= self.size || self.ahead.len() + 1 >= 2 * self.most {
                return;
            }
            let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else { return };
            // Half of the places are for those who come. Who opens it anew waits as long as the server asked for.
            if !self.client.has_spare() || self.client.pace.pause(&self.registry).is_some() {
                return;
            }
            if others > 0 {
                let Ok(place) = Arc::clone(&self.client.places).try_acquire_owned() else { return };
                self.places.push(place);
            }
            let until = self.size.min(self.next + self.client.options.piece_bytes);
            let hop = Hop { part: Part { from: self.next, until: Some(until) }, ..self.question.clone() };
            let (send, bytes) = mpsc::channel(CHUNKS);
            let (client, registry) = (Arc::clone(&self.client), self.registry.clone());
            let (key, size) = (self.key.clone(), self.size);
            let piece = async move {
                if let Err(failure) = client.piece(turn, hop, &registry, key, size, &send).await {
                    // Nobody wants to know any more if this fails.
                    send.send(Err(failure)).await.ok();
                }
            };
            self.tasks.spawn(piece.in_current_span());
            self.ahead.push_back(Ahead { bytes, length: until - self.next });
            self.next = until;
        }
    }
}
