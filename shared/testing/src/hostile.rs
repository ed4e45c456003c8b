//! A registry that misbehaves as ordered: blobs, manifests and tags in memory, scripted faults by path, and a record of
//! every request.
//!
//! It speaks raw HTTP/1.1 on 127.0.0.1, because a proper server library will not send a wrong `Content-Length` or reset a
//! connection in the middle. A second port plays the storage host ("CDN") that registries redirect to.
//!
//! ```
//! use berth_testing::hostile::{Fault, Faults, HostileRegistry};
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let registry = HostileRegistry::start(Faults::none().once("/blobs/", Fault::ResetAfter(1000))).await;
//! let blob = registry.add_blob(vec![1; 5000]);
//! assert!(registry.reference("some/image", "v1").starts_with("127.0.0.1:"));
//! # });
//! ```

mod answer;
mod auth;
mod fault;
mod http1;
mod serve;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use berth_model::{Descriptor, Digest};
use bytes::Bytes;
use tokio::{net::TcpListener, sync::watch};

pub use auth::Auth;
pub use fault::{Fault, Faults};

use crate::image::Image;

/// The running registry; it ends when this is dropped.
#[derive(Debug)]
pub struct HostileRegistry {
    state: Arc<State>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `HEAD`, `POST`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The `Accept-Encoding` header.
    pub accept_encoding: Option<String>,
    /// It came to the storage host.
    pub cdn: bool,
    /// The body, of a POST.
    pub body: String,
}

#[derive(Debug)]
pub(crate) struct State {
    registry: SocketAddr,
    cdn: SocketAddr,
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    /// It was told to, and not told otherwise since.
    behaves: watch::Sender<bool>,
    seen: Mutex<Vec<Seen>>,
    sent: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    blobs: HashMap<Digest, Bytes>,
    /// Manifests by digest, with the media type they are served under.
    manifests: HashMap<Digest, (String, Bytes)>,
    /// `repository:tag`.
    tags: HashMap<String, Digest>,
    auth: Auth,
    /// Tokens that are good now.
    tokens: Vec<String>,
    tokens_made: u64,
}

impl HostileRegistry {
    /// Starts on two free ports.
    pub async fn start(faults: Faults) -> Self {
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cdn = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(State {
            registry: registry.local_addr().unwrap(),
            cdn: cdn.local_addr().unwrap(),
            store: Mutex::default(),
            faults: Mutex::new(faults),
            behaves: watch::Sender::new(false),
            seen: Mutex::default(),
            sent: AtomicU64::new(0),
        });
        let tasks = vec![
            tokio::spawn(serve::accept(registry, Arc::clone(&state), false)),
            tokio::spawn(serve::accept(cdn, Arc::clone(&state), true)),
        ];
        Self { state, tasks }
    }

    /// `127.0.0.1:PORT` of the registry.
    #[must_use]
    pub fn host(&self) -> String {
        self.state.registry.to_string()
    }

    /// The registry's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.state.registry
    }

    /// A whole reference to a tag here.
    #[must_use]
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Adds a blob; blobs are in every repository.
    pub fn add_blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.store().blobs.insert(digest, bytes);
        digest
    }

    /// Puts bytes where a blob of that digest is looked for, whatever their own digest.
    pub fn add_wrong_blob(&self, digest: Digest, bytes: impl Into<Bytes>) {
        self.store().blobs.insert(digest, bytes.into());
    }

    /// Adds a manifest under a media type, and points a tag at it.
    pub fn add_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        let mut store = self.store();
        store.manifests.insert(descriptor.digest, (media_type.to_owned(), bytes));
        store.tags.insert(format!("{repository}:{tag}"), descriptor.digest);
        descriptor
    }

    /// Adds an image or an index with all its blobs, and points a tag at it.
    pub fn add_image(&self, repository: &str, tag: &str, image: &Image) {
        let mut store = self.store();
        for (digest, bytes) in &image.blobs {
            match answer::manifest_type(bytes) {
                Some(media_type) => {
                    store.manifests.insert(*digest, (media_type, bytes.clone()));
                }
                None => {
                    store.blobs.insert(*digest, bytes.clone());
                }
            }
        }
        store.tags.insert(format!("{repository}:{tag}"), image.target.digest);
    }

    /// Adds faults to those that are left.
    pub fn misbehave(&self, faults: Faults) {
        self.state.behaves.send_replace(false);
        self.state.faults.lock().unwrap().extend(faults);
    }

    /// From now on it behaves: what is held back is sent.
    pub fn behave(&self) {
        *self.state.faults.lock().unwrap() = Faults::none();
        self.state.behaves.send_replace(true);
    }

    /// Who may pull.
    pub fn require(&self, auth: Auth) {
        self.store().auth = auth;
    }

    /// Makes all tokens that were handed out worthless.
    pub fn expire_tokens(&self) {
        self.store().tokens.clear();
    }

    /// Every request so far, in the order of their arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many bytes of bodies were sent so far, whole ones and trickled ones; of cut-off answers, what was sent of a trickle.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// The requests so far whose path contains `part`.
    #[must_use]
    pub fn seen_at(&self, part: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|request| request.path.contains(part));
        seen
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.state.store.lock().unwrap()
    }
}

impl Drop for HostileRegistry {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
