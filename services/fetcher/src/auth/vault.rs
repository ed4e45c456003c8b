//! What servers were found to accept, kept as long as it is good: one entry per host, asker and repository, and one
//! request for a new one at a time, however many layers want it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use berth_model::Status;
use http::HeaderValue;
use url::Url;

use crate::errand::Errand;

/// Entries before those without a valid grant are dropped, and then, if need be, all.
const MAX_ENTRIES: usize = 4096;

/// Whose grant: equal keys may use each other's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Scheme, host and port of the registry.
    pub(crate) origin: String,
    /// Of the credentials.
    pub(crate) asker: [u8; 32],
    pub(crate) repository: String,
}

impl Key {
    /// Of whoever is on this errand, at the registry of this URL.
    pub(crate) fn of(url: &Url, errand: &Errand<'_>) -> Self {
        Self {
            origin: url.origin().ascii_serialization(),
            asker: errand.access.fingerprint(),
            repository: errand.reference.repository().to_owned(),
        }
    }
}

/// An `Authorization` header, and until when it is good.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) header: HeaderValue,
    pub(crate) until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Grant>>>;

#[derive(Default)]
pub(crate) struct Vault {
    slots: Mutex<HashMap<Key, Slot>>,
}

impl Vault {
    /// What was accepted before, if it is still good. Waits while it is being renewed.
    pub(crate) async fn known(&self, key: &Key) -> Option<HeaderValue> {
        let slot = self.lock().get(key).cloned()?;
        let grant = slot.lock().await;
        grant.as_ref().filter(|grant| grant.until > Instant::now()).map(|grant| grant.header.clone())
    }

    /// A new grant by `obtain`, unless somebody else got one after `rejected` was sent.
    pub(crate) async fn renew(
        &self,
        key: &Key,
        rejected: Option<&HeaderValue>,
        obtain: impl Future<Output = Result<Grant, Status>> + Send,
    ) -> Result<HeaderValue, Status> {
        let slot = self.slot(key);
        let mut held = slot.lock().await;
        if let Some(grant) = held.as_ref()
            && grant.until > Instant::now()
            && rejected != Some(&grant.header)
        {
            return Ok(grant.header.clone());
        }
        *held = None;
        let grant = obtain.await?;
        let header = grant.header.clone();
        *held = Some(grant);
        Ok(header)
    }

    /// What was granted did not do.
    pub(crate) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut slots = self.lock();
        if slots.len() >= MAX_ENTRIES && !slots.contains_key(key) {
            let now = Instant::now();
            slots.retain(|_, slot| {
                slot.try_lock().map_or(true, |grant| grant.as_ref().is_some_and(|grant| grant.until > now))
            });
            if slots.len() >= MAX_ENTRIES {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    fn key(repository: &str) -> Key {
        Key { origin: "https://r".to_owned(), asker: [0; 32], repository: repository.to_owned() }
    }

    fn grant(text: &str, life: u64) -> Grant {
        Grant { header: text.parse().unwrap(), until: Instant::now() + Duration::from_secs(life) }
    }

    #[tokio::test]
    async fn many_askers_make_one_request() {
        let vault = Vault::default();
        let asked = AtomicUsize::new(0);
        let (key, old) = (key("a"), HeaderValue::from_static("old"));
        let renew = || {
            vault.renew(&key, Some(&old), async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(grant("new", 60))
            })
        };
        let headers = futures::future::join_all((0..20).map(|_| renew())).await;
        assert!(headers.into_iter().all(|header| header.unwrap() == "new"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(vault.known(&key).await.unwrap(), "new");
    }

    #[tokio::test]
    async fn what_was_rejected_or_is_old_is_not_used() {
        let vault = Vault::default();
        let key = key("a");
        let first = vault.renew(&key, None, async { Ok(grant("one", 60)) }).await.unwrap();
        let second = vault.renew(&key, Some(&first), async { Ok(grant("two", 0)) }).await.unwrap();
        assert!(first == "one" && second == "two");
        assert_eq!(vault.known(&key).await, None);
        vault.renew(&key, None, async { Ok(grant("three", 60)) }).await.unwrap();
        vault.forget(&key);
        assert_eq!(vault.known(&key).await, None);
    }
}
