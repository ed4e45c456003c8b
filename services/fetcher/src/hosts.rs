//! What servers were like when they answered: whether they share a connection (HTTP/2).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Servers that are remembered; then all are forgotten, which costs a connection each.
const MOST: usize = 256;

/// By `host:port`.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Mutex<HashMap<String, bool>>);

impl Hosts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down whether other requests share the connection of an answer.
    pub(crate) fn answered(&self, host: &str, shares: bool) {
        let mut all = self.lock();
        if all.len() >= MOST && !all.contains_key(host) {
            all.clear();
        }
        all.insert(host.to_owned(), shares);
    }

    /// Whether requests to it share a connection, if that is known.
    pub(crate) fn shares(&self, host: &str) -> Option<bool> {
        self.lock().get(host).copied()
    }
}
