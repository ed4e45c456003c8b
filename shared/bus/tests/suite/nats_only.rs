//! What only a real server can do: be away, be restarted, lose its data, forbid.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_bus::{Bus, BusEvent, JobContext, NatsOptions};
use berth_model::{Code, Status};
use tokio::sync::{Barrier, Notify, Semaphore};

use crate::homes::{PATIENCE, Server, free_port, within};
use crate::messages::{Ask, BIG, Count, Counted, SMALL, ask, told};

#[tokio::test]
async fn no_server_is_a_clear_error_without_secrets() {
    let url = format!("nats://user:secret@127.0.0.1:{}", free_port());
    let options = NatsOptions { wait: Duration::from_millis(300), ..NatsOptions::new(url, "suite") };
    let status = Bus::connect(options).await.unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(status.message.contains("no NATS server answers at nats://127.0.0.1:"), "{status}");
    assert!(status.message.contains("nats-server -js") && !status.message.contains("secret"), "{status}");
}

#[tokio::test]
async fn wrong_credentials_fail_at_once() {
    let server = Server::start(&["--user", "u", "--pass", "right"]);
    let url = server.url().replace("nats://", "nats://u:wrong@");
    let status = within("refusal", Bus::connect(NatsOptions::new(url, "suite"))).await.unwrap_err();
    assert_eq!(status.code, Code::Unauthenticated, "{status}");
    assert!(!status.message.contains("wrong"), "{status}");
}

#[tokio::test]
async fn credentials_in_the_url_are_used() {
    let server = Server::start(&["--user", "u", "--pass", "p@ss"]);
    Bus::connect(NatsOptions::new(server.url().replace("nats://", "nats://u:p%40ss@"), "suite")).await.unwrap();
    let server = Server::start(&["--auth", "t0ken"]);
    Bus::connect(NatsOptions::new(server.url().replace("nats://", "nats://t0ken@"), "suite")).await.unwrap();
}

#[tokio::test]
async fn a_bad_url_is_the_callers_fault() {
    let status = Bus::connect(NatsOptions::new("nats://u:secret@host:port:x", "suite")).await.unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument);
    assert!(!status.message.contains("secret"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_survive_a_restart() {
    let mut server = Server::secured();
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let handler = {
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        move |_: Ask| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            async move {
                entered.notify_one();
                drop(gate.acquire().await);
                Ok(told("after"))
            }
        }
    };
    let _serving = server.bus().await.serve(handler).await.unwrap();
    let caller = server.bus().await;
    let call = tokio::spawn(async move { caller.call(ask("x")).await });
    within("the handler to begin", entered.notified()).await;
    server.kill();
    gate.add_permits(2);
    server.revive(true);
    assert_eq!(within("the call", call).await.unwrap().unwrap(), told("after"));
}

/// The replica's process is gone without a word while it works on a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_is_replaced() {
    let server = Server::secured();
    let entered = Arc::new(Notify::new());
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (options, begun) = (server.options(), Arc::clone(&entered));
    doomed.spawn(async move {
        let bus = Bus::connect(options).await.unwrap();
        let handler = move |_: Ask| {
            begun.notify_one();
            std::future::pending()
        };
        let _serving = bus.serve::<Ask, _, _>(handler).await.unwrap();
        std::future::pending::<()>().await;
    });
    let caller = server.bus().await;
    let call = tokio::spawn(async move { caller.call(ask("x")).await });
    within("the handler to begin", entered.notified()).await;
    let _second = server.bus().await.serve(|_: Ask| async { Ok(told("second")) }).await.unwrap();
    doomed.shutdown_background();
    assert_eq!(within("the call", call).await.unwrap().unwrap(), told("second"));
}

/// Longer than the silence after which a request counts as lost: the replica shows that it is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_call_runs_once() {
    let server = Server::secured();
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let handler = {
        let runs = Arc::clone(&runs);
        move |_: Ask| {
            let run = runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            async move {
                // sleeps: a handler slower than the silence is the point.
                tokio::time::sleep(Duration::from_secs(6)).await;
                Ok(told(&run.to_string()))
            }
        }
    };
    let _serving = server.bus().await.serve(handler).await.unwrap();
    assert_eq!(server.bus().await.call(ask("x")).await.unwrap(), told("1"));
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 1);
}

async fn a_job_survives(keep: bool) {
    let mut server = Server::secured();
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let handler = {
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        move |job: Count, _: JobContext<Count>| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            async move {
                entered.notify_one();
                drop(gate.acquire().await);
                Ok(Counted { at: job.to })
            }
        }
    };
    let _serving = server.bus().await.work(1, handler).await.unwrap();
    let bus = server.bus().await;
    let running = bus.submit(Count { to: 1 }).await.unwrap();
    let waiting = bus.submit(Count { to: 2 }).await.unwrap();
    within("the job to begin", entered.notified()).await;
    server.kill();
    gate.add_permits(10);
    server.revive(keep);
    assert_eq!(within("the running job", running.outcome()).await.unwrap().at, 1);
    assert_eq!(within("the waiting job", waiting.outcome()).await.unwrap().at, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_survive_a_restart() {
    a_job_survives(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_survive_a_server_that_lost_everything() {
    a_job_survives(false).await;
}

async fn events_survive(keep: bool) {
    let mut server = Server::secured();
    let bus = server.bus().await;
    let mut events = server.bus().await.subscribe(">").await.unwrap();
    let event =
        |id: &str| BusEvent { subject: "a.b".into(), id: id.into(), headers: Vec::new(), body: bytes::Bytes::new() };
    bus.publish(event("1")).await.unwrap();
    assert_eq!(within("event 1", events.next()).await.unwrap().unwrap().id, "1");
    server.kill();
    let publishing = tokio::spawn(async move { bus.publish(event("2")).await });
    server.revive(keep);
    within("publish", publishing).await.unwrap().unwrap();
    assert_eq!(within("event 2", events.next()).await.unwrap().unwrap().id, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_survive_a_restart() {
    events_survive(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_survive_a_server_that_lost_everything() {
    events_survive(false).await;
}

/// The worker's process is gone without a word: its whole runtime, connection included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_is_replaced() {
    let server = Server::secured();
    let entered = Arc::new(Notify::new());
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (options, begun) = (server.options(), Arc::clone(&entered));
    doomed.spawn(async move {
        let bus = Bus::connect(options).await.unwrap();
        let handler = move |_: Count, _: JobContext<Count>| {
            begun.notify_one();
            std::future::pending::<Result<Counted, Status>>()
        };
        let _serving = bus.work(1, handler).await.unwrap();
        std::future::pending::<()>().await;
    });
    let handle = server.bus().await.submit(Count { to: 1 }).await.unwrap();
    within("the job to begin", entered.notified()).await;
    let _second = server
        .bus()
        .await
        .work(1, |_: Count, context: JobContext<Count>| async move { Ok(Counted { at: context.attempt() }) })
        .await
        .unwrap();
    doomed.shutdown_background();
    assert!(within("outcome", handle.outcome()).await.unwrap().at >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_job_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let bus = server.bus().await;
    let handler = |job: Count, _: JobContext<Count>| async move {
        if job.to == 1 { Ok(Counted { at: 1 }) } else { Err(Status::not_found("x")) }
    };
    let _serving = bus.work(1, handler).await.unwrap();
    for to in [1, 2] {
        drop(within("outcome", bus.submit(Count { to }).await.unwrap().outcome()).await);
    }
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    within("an empty stream", async {
        while jetstream.get_stream("BERTH_JOBS").await.unwrap().cached_info().state.messages > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_differs_is_refused() {
    let server = Server::start(&[]);
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config = async_nats::jetstream::stream::Config {
        name: "BERTH_JOBS".into(),
        subjects: vec!["berth.job.>".into()],
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let handler = |job: Count, _: JobContext<Count>| async move { Ok(Counted { at: job.to }) };
    let status = server.bus().await.work(1, handler).await.unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition, "{status}");
    assert!(status.message.contains("BERTH_JOBS") && status.message.contains("retention"), "{status}");
}

#[tokio::test]
async fn a_forbidden_subject_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nats.conf");
    std::fs::write(&file, r#"authorization { users: [ { user: u, password: p, permissions: { publish: { deny: ["berth.call.>", "berth.events.>"] } } } ] }"#).unwrap();
    let server = Server::start(&["-c", file.to_str().unwrap()]);
    let options = NatsOptions { url: server.url().replace("nats://", "nats://u:p@"), ..server.options() };
    let bus = Bus::connect(options).await.unwrap();
    let status = within("the refusal", bus.call(ask("x"))).await.unwrap_err();
    assert_eq!(status.code, Code::PermissionDenied, "{status}");
    assert!(status.message.contains("not permitted on subject berth.call.oracle.v1.Ask"), "{status}");
    let event = BusEvent { subject: "a".into(), id: "1".into(), headers: Vec::new(), body: bytes::Bytes::new() };
    let status = within("the refusal", bus.publish(event)).await.unwrap_err();
    assert_eq!(status.code, Code::PermissionDenied, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_notices_that_the_process_of_its_caller_is_gone() {
    let server = Server::start(&[]);
    let (begun, noticed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, noticed) = (Arc::clone(&begun), Arc::clone(&noticed));
        move |_: Ask| {
            let (begun, noticed) = (Arc::clone(&begun), Arc::clone(&noticed));
            async move {
                begun.notify_one();
                berth_bus::caller_gone().cancelled().await;
                noticed.notify_one();
                Err(Status::cancelled("nobody waits"))
            }
        }
    };
    let _serving = server.bus().await.serve::<Ask, _, _>(handler).await.unwrap();
    // A runtime of its own, which ends with all its connections and without a word.
    let options = server.options();
    let caller = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async move {
            let bus = Bus::connect(options).await.unwrap();
            tokio::spawn(async move { bus.call_within(ask("long"), PATIENCE).await });
            within("the handler", begun.notified()).await;
        });
        runtime.shutdown_background();
    });
    within("the news", noticed.notified()).await;
    caller.join().unwrap();
}

#[tokio::test]
async fn small_jobs_share_a_place_and_others_do_not() {
    let server = Server::start(&[]);
    let bus = Bus::connect(NatsOptions::new(server.url(), "suite")).await.unwrap();
    // In small jobs, of which eight are as much as another.
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // None of the small ones gets past it alone.
    let together = Arc::new(Barrier::new(8));
    let handler = {
        let most = Arc::clone(&most);
        move |job: Count, _: JobContext<Count>| {
            let (running, most, together) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&together));
            async move {
                let size = if job.to < BIG { 1 } else { 8 };
                most.fetch_max(running.fetch_add(size, Ordering::SeqCst) + size, Ordering::SeqCst);
                if job.to < BIG {
                    together.wait().await;
                } else {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                }
                running.fetch_sub(size, Ordering::SeqCst);
                Ok(Counted { at: job.to })
            }
        }
    };
    let _serving = bus.work(2, handler).await.unwrap();
    let mut handles = Vec::new();
    for to in
        [BIG, BIG + 1, SMALL, SMALL + 1, SMALL + 2, BIG + 2, SMALL + 3, SMALL + 4, SMALL + 5, SMALL + 6, SMALL + 7]
    {
        handles.push(bus.submit(Count { to }).await.unwrap());
    }
    for handle in handles {
        within("outcome", handle.outcome()).await.unwrap();
    }
    assert!((8..=16).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}
