//! Calls in-process: a table of endpoints per subject, taken in turn.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_model::Status;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
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
    /// Somebody serves what nobody did.
    appeared: watch::Sender<()>,
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
            appeared: Some(&self.calls.appeared),
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
        self.calls.appeared.send_replace(());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses between tries are for homes where nobody can tell.
    #[tokio::test]
    async fn a_service_that_appears_is_called_at_once() {
        let local = Arc::new(Local::new(Duration::from_secs(10)));
        let handler: CallHandler = Arc::new(|body| Box::pin(async move { Ok(body) }));
        let _other = local.serve("berth.other.v1.Call", Arc::clone(&handler));
        let (caller, limit) = (Arc::clone(&local), Duration::from_secs(10));
        let call =
            tokio::spawn(async move { caller.call("berth.late.v1.Call", "x".into(), Headers::default(), limit).await });
        tokio::task::yield_now().await;
        let _another = local.serve("berth.another.v1.Call", Arc::clone(&handler));
        tokio::task::yield_now().await;
        assert!(!call.is_finished());
        let _late = local.serve("berth.late.v1.Call", handler);
        for _turn in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(call.is_finished(), "it pauses though the service is there");
        assert_eq!(call.await.unwrap().unwrap(), "x");
    }
}
