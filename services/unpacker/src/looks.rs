//! Looks at snapshots' records, gathered: those that come while one is on its way wait for it, and are one then. Whoever begins
//! a hundred small layers has a few calls to wait for, not a hundred.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use berth_api::metadata::Metadata;
use berth_model::Status;
use berth_wire::metadata::StatSnapshotsRequest;
use tokio::sync::oneshot;

/// So many keys in one call.
const MOST: usize = 250;

#[derive(Default)]
pub(crate) struct Looks {
    waiting: Mutex<Vec<Look>>,
    turn: tokio::sync::Mutex<()>,
}

/// Of one who waits.
struct Look {
    at: Place,
    key: String,
    answer: oneshot::Sender<Result<Option<u64>, Status>>,
}

/// Where a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) snapshotter: String,
}

impl Looks {
    /// The id of a snapshot's record; `None` if there is none.
    pub(crate) async fn id_of(&self, metadata: &dyn Metadata, at: &Place, key: &str) -> Result<Option<u64>, Status> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting().push(Look { at: at.clone(), key: key.to_owned(), answer });
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answered => match answer {
                        Ok(found) => return found,
                        // Whoever asked for it was cancelled.
                        Err(_) => break,
                    },
                    _turn = self.turn.lock() => self.ask(metadata).await,
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Look>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for those who wait, as many as one call can ask for.
    async fn ask(&self, metadata: &dyn Metadata) {
        let looks = self.take();
        let Some(first) = looks.first() else { return };
        let Place { namespace, snapshotter } = first.at.clone();
        let keys = looks.iter().map(|look| look.key.clone()).collect();
        let found = metadata.stat_snapshots(StatSnapshotsRequest { namespace, snapshotter, keys }).await;
        let ids = found.map(|found| {
            let ids = found.snapshots.into_iter().map(|snapshot| (snapshot.name, snapshot.id));
            ids.collect::<HashMap<_, _>>()
        });
        for Look { key, answer, .. } in looks {
            let id = ids.as_ref().map(|ids| ids.get(&key).copied()).map_err(Clone::clone);
            // Who does not wait any more needs none.
            drop(answer.send(id));
        }
    }

    /// Those of one place who wait.
    fn take(&self) -> Vec<Look> {
        let mut waiting = self.waiting();
        waiting.retain(|look| !look.answer.is_closed());
        let Some(at) = waiting.first().map(|look| look.at.clone()) else { return Vec::new() };
        let mut taken = Vec::new();
        for look in mem::take(&mut *waiting) {
            if look.at == at && taken.len() < MOST { taken.push(look) } else { waiting.push(look) }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_api::metadata::MetadataClient;
    use berth_bus::{Bus, Serving};
    use berth_model::Code;
    use berth_wire::metadata::{Snapshot, StatSnapshotsReply};
    use tokio::{sync::Semaphore, task::yield_now};

    use super::*;

    /// Records: `name-7` has the id 7, and what is not named so is not there. Each call waits for leave.
    struct Records {
        looks: Arc<Looks>,
        metadata: Arc<MetadataClient>,
        leave: Arc<Semaphore>,
        asked: Arc<Mutex<Vec<StatSnapshotsRequest>>>,
        _serving: Serving,
    }

    type Found = tokio::task::JoinHandle<Result<Option<u64>, Status>>;

    impl Records {
        async fn new() -> Self {
            let (leave, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
            let bus = Bus::in_process();
            let (leaves, told) = (Arc::clone(&leave), Arc::clone(&asked));
            let serving = bus.serve(move |request: StatSnapshotsRequest| {
                told.lock().unwrap().push(request.clone());
                let leaves = Arc::clone(&leaves);
                async move {
                    leaves.acquire().await.unwrap().forget();
                    if request.namespace == "bad" {
                        return Err(Status::invalid_argument("no such namespace"));
                    }
                    let ids = request.keys.iter().filter_map(|key| {
                        let id = key.strip_prefix("name-")?.parse().ok()?;
                        Some(Snapshot { name: key.clone(), id, ..Snapshot::default() })
                    });
                    Ok(StatSnapshotsReply { snapshots: ids.collect() })
                }
            });
            let _serving = serving.await.unwrap();
            let metadata = Arc::new(MetadataClient::new(bus));
            Self { looks: Arc::default(), metadata, leave, asked, _serving }
        }

        fn look(&self, namespace: &str, key: &str) -> Found {
            let (looks, metadata) = (Arc::clone(&self.looks), Arc::clone(&self.metadata));
            let at = Place { namespace: namespace.into(), snapshotter: "overlayfs".into() };
            let key = key.to_owned();
            tokio::spawn(async move { looks.id_of(metadata.as_ref(), &at, &key).await })
        }

        /// So many calls were made, and so many more wait to be asked for.
        async fn until(&self, asked: usize, waiting: usize) {
            while self.asked.lock().unwrap().len() != asked || self.looks.waiting().len() != waiting {
                yield_now().await;
            }
        }

        fn keys(&self) -> Vec<usize> {
            self.asked.lock().unwrap().iter().map(|request| request.keys.len()).collect()
        }
    }

    #[tokio::test]
    async fn those_that_come_meanwhile_are_one_call() {
        let records = Records::new().await;
        let first = records.look("default", "name-1");
        records.until(1, 0).await;
        let others: Vec<Found> = (2..=MOST + 11).map(|id| records.look("default", &format!("name-{id}"))).collect();
        let nobody = records.look("default", "nobody");
        records.until(1, MOST + 11).await;
        records.leave.add_permits(3);
        assert_eq!(first.await.unwrap(), Ok(Some(1)));
        for (id, other) in (2..).zip(others) {
            assert_eq!(other.await.unwrap(), Ok(Some(id)));
        }
        assert_eq!(nobody.await.unwrap(), Ok(None));
        assert_eq!(records.keys(), [1, MOST, 11]);
    }

    #[tokio::test]
    async fn each_place_has_its_own_answer() {
        let records = Records::new().await;
        let first = records.look("default", "name-1");
        records.until(1, 0).await;
        let others = [("bad", "name-2"), ("other", "name-3"), ("bad", "name-4")].map(|(at, key)| records.look(at, key));
        records.until(1, 3).await;
        records.leave.add_permits(3);
        let [bad, good, bad_too] = others;
        assert_eq!(first.await.unwrap(), Ok(Some(1)));
        assert_eq!(good.await.unwrap(), Ok(Some(3)));
        for bad in [bad, bad_too] {
            assert_eq!(bad.await.unwrap().unwrap_err().code, Code::InvalidArgument);
        }
        assert_eq!(records.keys().len(), 3);
    }

    /// Whoever asks for others may go before the answer comes; who does not wait any more is not asked for.
    #[tokio::test]
    async fn nobody_waits_for_one_who_went() {
        let records = Records::new().await;
        let first = records.look("default", "name-1");
        records.until(1, 0).await;
        let (second, third) = (records.look("default", "name-2"), records.look("default", "name-3"));
        let gone = records.look("default", "name-4");
        records.until(1, 3).await;
        gone.abort();
        first.abort();
        records.until(2, 0).await;
        assert_eq!(records.keys(), [1, 2]);
        second.abort();
        records.until(3, 0).await;
        records.leave.add_permits(3);
        assert_eq!(third.await.unwrap(), Ok(Some(3)));
    }
}
