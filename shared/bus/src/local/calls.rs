//! Calls in-process: a table of endpoints per subject, taken in turn.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_model::Status;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Local, lock};
use crate::call::{Calling, Tried};
use crate::endpoint::{CallHandler, Endpoint, Request};
use crate::frame::LOCAL_MAX_PAYLOAD;
use crate::serving::{Life, Serving};
use crate::trace::Headers;

type Table = HashMap<&'static str, Vec<Arc<Endpoint>>>;

/// Who serves what.
#[derive(Default)]
pub(super) struct Calls {
    table: Arc<Mutex<Table>>,
    turn: AtomicUsize,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("subjects", &lock(&self.table).len()).finish()
    }
}

impl Calls {
    fn pick(&self, subject: &str) -> Option<Arc<Endpoint>> {
        let table = lock(&self.table);
        let replicas = table.get(subject)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        replicas.get(turn.checked_rem(replicas.len())?).cloned()
    }
}

impl Local {
    pub(crate) async fn call(
        &self,
        subject: &'static str,
        body: Bytes,
        headers: Headers,
        limit: Duration,
    ) -> Result<Bytes, Status> {
        let calling = Calling {
            subject,
            limit,
            wait: self.wait,
            place: "in this process",
            remedy: "; is it part of what `berth serve` was told to run?",
        };
        calling
            .drive(|left| {
                let gone = CancellationToken::new();
                let waiting = gone.clone().drop_guard();
                let request = Request { body: body.clone(), headers: headers.clone(), limit: left, gone };
                async move {
                    let _waiting = waiting;
                    self.try_call(subject, request).await
                }
            })
            .await
    }

    async fn try_call(&self, subject: &str, request: Request) -> Tried {
        let Some(endpoint) = self.calls.pick(subject) else { return Tried::Nobody };
        let (answer, answered) = oneshot::channel();
        // A caller that went away is no error: nobody wants the answer any more.
        endpoint.accept(request, |reply| async move { drop(answer.send(reply)) }).await;
        answered.await.map_or(Tried::Lost, Tried::Replied)
    }

    pub(crate) fn serve(&self, subject: &'static str, handler: CallHandler) -> Serving {
        let life = Life::default();
        let endpoint = Arc::new(Endpoint::new(subject, handler, LOCAL_MAX_PAYLOAD, life.clone()));
        lock(&self.calls.table).entry(subject).or_default().push(Arc::clone(&endpoint));
        let (table, stop) = (Arc::clone(&self.calls.table), life.stop.clone());
        life.tasks.spawn(async move {
            stop.cancelled().await;
            if let Some(replicas) = lock(&table).get_mut(subject) {
                replicas.retain(|other| !Arc::ptr_eq(other, &endpoint));
            }
        });
        Serving::of_calls(life, None)
    }
}
