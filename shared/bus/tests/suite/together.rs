//! Processes of a deployment that begin in the same moment, on a server that has nothing yet.

use berth_bus::{Bus, JobContext, NatsOptions};
use futures::future::join_all;
use std::time::Duration;

use crate::homes::{Server, within};
use crate::messages::{Count, Counted};

/// Servers to begin on: what goes wrong does so once in a while.
const ROUNDS: u64 = 12;
const WORKERS: usize = 6;
const JOBS: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_begin_together_share_the_work() {
    for round in 0..ROUNDS {
        let server = Server::secured();
        let ran = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let buses = join_all(
            (0..WORKERS).map(|_| Bus::connect(NatsOptions { wait: Duration::from_secs(30), ..server.options() })),
        )
        .await;
        let buses: Vec<Bus> = buses.into_iter().map(Result::unwrap).collect();
        let works = buses.iter().map(|bus| {
            let ran = std::sync::Arc::clone(&ran);
            bus.work(2, move |job: Count, _: JobContext<Count>| {
                ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                async move { Ok(Counted { at: job.to }) }
            })
        });
        let serving = within("the workers to begin", join_all(works)).await;
        let _serving: Vec<_> = serving.into_iter().map(Result::unwrap).collect();
        let client = buses.first().unwrap();
        for to in 0..JOBS {
            let handle = within("a job to be taken in", client.submit(Count { to })).await.unwrap();
            let done = within(&format!("job {to} of round {round}"), handle.outcome()).await.unwrap();
            assert_eq!(done, Counted { at: to });
        }
        assert_eq!(ran.load(std::sync::atomic::Ordering::SeqCst), JOBS, "each job once, in round {round}");
    }
}
