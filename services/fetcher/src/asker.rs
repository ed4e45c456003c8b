//! Who asks for a pull: the credentials of its caller, which only the transfer service keeps. The many jobs of one pull
//! come together, and ask once. A refusal is a reason to ask again: somebody may have brought other credentials since.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_api::transfer::Transfer;
use berth_model::{Code, Status};
use berth_wire::transfer::GetAccessRequest;
use tokio::sync::OnceCell;

use crate::access::Access;

/// How long an answer is good for; no secret stays here longer than its pull for more than that.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// Pulls whose answers are kept.
const MOST: usize = 256;

/// What is known of one pull.
struct Known {
    since: Instant,
    access: Arc<OnceCell<Access>>,
}

/// Asks the transfer service.
pub(crate) struct Asker {
    transfer: Arc<dyn Transfer>,
    known: Mutex<HashMap<String, Known>>,
}

impl Asker {
    pub(crate) fn new(transfer: Arc<dyn Transfer>) -> Self {
        Self { transfer, known: Mutex::default() }
    }

    /// Who asks. A pull that is gone has no credentials any more; what is public can be fetched all the same.
    pub(crate) async fn access(&self, pull_id: &str) -> Result<Access, Status> {
        let place = self.place(pull_id);
        let asked = place.get_or_try_init(|| async {
            let request = GetAccessRequest { pull_id: pull_id.to_owned() };
            self.transfer.get_access(request).await.map(|access| Access::from(&access))
        });
        match asked.await {
            Ok(access) => Ok(access.clone()),
            Err(status) if status.code == Code::NotFound => Ok(Access::default()),
            Err(status) => Err(status),
        }
    }

    /// Who asks by now, if that is somebody else than before.
    pub(crate) async fn other_than(&self, pull_id: &str, before: &Access) -> Option<Access> {
        self.forget(pull_id, before);
        // The refusal is told in any case; this one would only hide it.
        let now = self.access(pull_id).await.ok()?;
        (now.credentials.is_some() && now.credentials != before.credentials).then_some(now)
    }

    /// Drops an answer that says this, and not one that came since.
    fn forget(&self, pull_id: &str, before: &Access) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, known| {
            id != pull_id || known.access.get().is_none_or(|kept| kept.credentials != before.credentials)
        });
    }

    /// The place of a pull's answer.
    fn place(&self, pull_id: &str) -> Arc<OnceCell<Access>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.since.elapsed() < GOOD_FOR);
        if known.len() >= MOST && !known.contains_key(pull_id) {
            return Arc::default();
        }
        let fresh = || Known { since: Instant::now(), access: Arc::default() };
        Arc::clone(&known.entry(pull_id.to_owned()).or_insert_with(fresh).access)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use berth_api::transfer::TransferClient;
    use berth_bus::{Bus, Serving};
    use berth_wire::fetcher as msg;

    use super::*;

    /// A transfer service that knows the pulls whose ids begin with `p`.
    async fn transfer(bus: &Bus, asked: Arc<AtomicUsize>) -> Serving {
        let answer = move |request: GetAccessRequest| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move {
                if request.pull_id.starts_with('p') {
                    Ok(msg::Access { username: request.pull_id, secret: "s".into(), plain_http: false })
                } else {
                    Err(Status::not_found("no such pull"))
                }
            }
        };
        bus.serve(answer).await.unwrap()
    }

    #[tokio::test]
    async fn the_jobs_of_a_pull_ask_once_and_get_their_own() {
        let (bus, asked) = (Bus::in_process(), Arc::new(AtomicUsize::new(0)));
        let _serving = transfer(&bus, Arc::clone(&asked)).await;
        let asker = Asker::new(Arc::new(TransferClient::new(bus)));
        let mine = Access::with_user("p1", "s", false);
        for found in futures::future::join_all((0..20).map(|_| asker.access("p1"))).await {
            assert_eq!(found.unwrap(), mine);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(asker.access("p2").await.unwrap(), Access::with_user("p2", "s", false));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // One that is gone may be back.
        for n in 3..5 {
            assert_eq!(asker.access("gone").await.unwrap(), Access::default());
            assert_eq!(asked.load(Ordering::Relaxed), n);
        }
        // However many there are, all are answered, and few are kept.
        for n in 0..2 * MOST {
            asker.access(&format!("p{n}")).await.unwrap();
        }
        assert!(asker.known.lock().unwrap().len() <= MOST);
    }
}
