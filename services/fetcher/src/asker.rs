//! Who asks for a pull: the credentials of its caller, which only the transfer service keeps. The many jobs of one pull
//! come together, and ask once.

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
