//! A large blob of a server that is far, in pieces by several connections at once.
//!
//! One connection brings at most a window of TCP in a round trip, less where packets get lost, and less again where a
//! storage host gives each connection its share. Pieces are handed on in order, as their bytes are hashed and unpacked while
//! they arrive; what comes before its turn waits in memory. Nothing is asked twice here: whatever goes wrong ends it, and
//! whoever reads goes on with one connection where it ended.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tracing::Instrument as _;
use url::Url;

use crate::{
    auth::vault::Key,
    body::Body,
    client::RegistryClient,
    errand::authority,
    failure::{Failure, FailureKind},
    range::{Begins, Part, begins},
    retry::retry_after,
    transport::Hop,
};

/// Chunks of one piece that may wait; more than a piece has, unless they are very small.
const CHUNKS: usize = 1024;

/// Where pieces come from.
pub(crate) struct Source {
    pub(crate) client: Arc<RegistryClient>,
    /// `host:port` of the registry.
    pub(crate) registry: String,
    pub(crate) key: Key,
    /// As the first one was asked for, where it was in the end.
    pub(crate) question: Hop,
    /// Of the whole blob.
    pub(crate) size: u64,
}

pub(crate) struct Pieces {
    source: Arc<Source>,
    /// Here begins what nobody was asked for yet.
    next: u64,
    /// Pieces that come at once, at most.
    most: usize,
    /// So many that may come. A piece gives its turn back before its last bytes came.
    turns: Arc<Semaphore>,
    /// That of the first one.
    turn: Turn,
    /// One of them failed: no other is asked for.
    failed: Arc<AtomicBool>,
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

/// That of a piece, while it comes. Pieces that share a link end at about the same time, and it would rest until others begin;
/// so the turn is given back before the last bytes came, if these take so long that another connection is fast by then.
struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    length: u64,
    /// When its second half began, which comes as fast as it may: a connection begins slowly.
    half: Option<Instant>,
    enough: Duration,
}

impl Turn {
    fn of(permit: Option<OwnedSemaphorePermit>, source: &Source, length: u64) -> Self {
        let round_trip = source.client.transport.hosts.best(&source.registry).unwrap_or_default();
        Self { permit, length, half: None, enough: round_trip * source.client.options.warm_up }
    }

    /// So many bytes have not come yet.
    fn left(&mut self, left: u64, now: Instant) {
        let Some(came) = (self.length / 2).checked_sub(left) else { return };
        let half = *self.half.get_or_insert(now);
        let takes = now.duration_since(half).as_secs_f64() * left as f64 / came.max(1) as f64;
        if left == 0 || left <= self.length / 4 && takes >= self.enough.as_secs_f64() {
            self.permit = None;
        }
    }
}

impl Source {
    /// Asks once for a piece, and hands it on as it comes.
    async fn piece(
        &self,
        part: Part,
        turn: &mut Turn,
        bytes: &mpsc::Sender<Result<Bytes, Failure>>,
    ) -> Result<(), Failure> {
        let Self { client, size, .. } = self;
        let mut hop = Hop { part, ..self.question.clone() };
        if !hop.elsewhere {
            hop.authorization = client.vault.known(&self.key).await;
        }
        let response = client.transport.once(&hop).await?.response;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let asked = retry_after(response.headers(), SystemTime::now()).unwrap_or(client.options.throttled_min);
            // Who asks again hears of a longer one himself.
            if asked <= client.options.retry_after_max {
                for host in [&self.registry, &authority(&hop.url)] {
                    client.pace.hold(host, Instant::now() + asked);
                }
            }
        }
        let served = match status {
            StatusCode::PARTIAL_CONTENT => begins(status, response.headers(), part, *size),
            _ => Begins::Lies,
        };
        if served != (Begins::There { until: part.until.unwrap_or(*size) }) {
            return Err(Failure::new(
                FailureKind::Piece(status),
                response.url(),
                format!("answered {status} to a question for a part of a blob"),
            ));
        }
        let (url, mut left) = (response.url().clone(), part.until.unwrap_or(*size).saturating_sub(part.from));
        let mut body = Body::new(response, 0, &client.options);
        while let Some(chunk) = body.chunk().await? {
            // It waits in memory, so nothing may come that was not asked for.
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| too_much(&url))?;
            turn.left(left, Instant::now());
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
    /// Hands on the first one, and what follows it by at most so many connections.
    pub(crate) fn begin(source: Source, first: Body, most: usize) -> Self {
        let (turns, part) = (Arc::new(Semaphore::new(most)), source.question.part);
        let next = part.until.unwrap_or(source.size);
        Self {
            next,
            most,
            turn: Turn::of(Arc::clone(&turns).try_acquire_owned().ok(), &source, next - part.from),
            turns,
            failed: Arc::default(),
            places: Vec::new(),
            reading: Reading::First(Box::new(first)),
            left: next - part.from,
            given: 0,
            source: Arc::new(source),
            ahead: VecDeque::new(),
            tasks: JoinSet::new(),
        }
    }

    /// `host:port` of who sends it.
    pub(crate) fn host(&self) -> String {
        authority(&self.source.question.url)
    }

    /// Whether all that was asked for was handed on.
    pub(crate) fn are_over(&self) -> bool {
        self.left == 0 && self.ahead.is_empty()
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            self.ask_ahead();
            let all_come = self.turns.available_permits() == 0;
            let arrived = tokio::select! {
                arrived = self.reading.chunk() => arrived,
                _turn = self.turns.acquire(), if all_come => continue,
            };
            let chunk = match arrived {
                // Who opens it anew is let in anew. Unless that is of little use.
                Err(failure) if failure.is_stale() && self.given >= self.source.client.options.stretch_bytes => {
                    tracing::debug!(detail = failure.detail, "asking the registry anew");
                    self.end();
                    return Ok(None);
                }
                other => other?,
            };
            if let Some(chunk) = chunk {
                let left = self.left.checked_sub(chunk.len() as u64);
                self.left = left.ok_or_else(|| too_much(&self.source.question.url))?;
                self.given += chunk.len() as u64;
                if matches!(self.reading, Reading::First(_)) {
                    self.turn.left(self.left, Instant::now());
                }
                return Ok(Some(chunk));
            }
            if self.left > 0 || !self.turn_over() {
                return Ok(None);
            }
        }
    }

    /// Goes on with the next piece, if there is one.
    fn turn_over(&mut self) -> bool {
        let Some(next) = self.ahead.pop_front() else { return false };
        (self.reading, self.left) = (Reading::Later(next.bytes), next.length);
        true
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
        // Each gives its turn back when this can be seen.
        while !self.failed.load(Ordering::Acquire) {
            let others = self.most - self.turns.available_permits();
            self.places.truncate(others.saturating_sub(1));
            // What came waits in memory, and has no place any more.
            if self.most == 1 || self.next >= self.source.size || self.ahead.len() + 1 >= 2 * self.most {
                return;
            }
            let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else { return };
            // Half of the places are for those who come. Who opens it anew waits as long as the server asked for.
            if !self.source.client.has_spare() || self.source.client.pace.pause(&self.source.registry).is_some() {
                return;
            }
            if others > 0 {
                let Ok(place) = Arc::clone(&self.source.client.places).try_acquire_owned() else { return };
                self.places.push(place);
            }
            let until = self.source.size.min(self.next + self.source.client.options.piece_bytes);
            let part = Part { from: self.next, until: Some(until) };
            let ((send, bytes), source) = (mpsc::channel(CHUNKS), Arc::clone(&self.source));
            let (mut turn, failed) = (Turn::of(Some(turn), &source, until - self.next), Arc::clone(&self.failed));
            let piece = async move {
                if let Err(failure) = source.piece(part, &mut turn, &send).await {
                    failed.store(true, Ordering::Release);
                    drop(turn);
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
