//! What may go wrong at the server and on the way to it: each is ridden out, or named. Encrypted and with permissions, but
//! where the absence of something is the point.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_bus::{Bus, BusEvent, JobContext, NatsOptions};
use berth_model::{Code, Status};
use berth_testing::tiny_disk::TinyDisk;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::homes::{Server, within};
use crate::messages::{Ask, Count, Counted, Filled, ask, told};
use crate::proxy::Proxy;

fn configured(directory: &tempfile::TempDir, config: &str) -> Server {
    let file = directory.path().join("nats.conf");
    fs::write(&file, config).unwrap();
    Server::start(&["-c", file.to_str().unwrap()])
}

fn event(number: usize, size: usize) -> BusEvent {
    BusEvent {
        subject: "a".into(),
        id: number.to_string(),
        headers: Vec::new(),
        body: bytes::Bytes::from(vec![7; size]),
    }
}

async fn works(bus: &Bus) -> Result<berth_bus::Serving, Status> {
    bus.work(1, |job: Count, _: JobContext<Count>| async move { Ok(Counted { at: job.to }) }).await
}

/// The server gives up on a client that does not read, and closes its connection. Nothing of what was for it is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_catches_up() {
    const CALLS: usize = 60;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let config = format!("max_pending: 1MB\nwrite_deadline: \"1s\"\nlog_file: \"{}\"\n", log.display());
    let server = Server::secured_with("enabled", &config);
    let proxy = Proxy::start(server.port()).await;
    let far = NatsOptions { url: proxy.url(), ..server.options() };
    let (slow, near) = (Bus::connect(far).await.unwrap(), server.bus().await);
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    let _serving = slow
        .serve(move |request: Ask| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(told(&request.what)) }
        })
        .await
        .unwrap();
    let mut heard = slow.subscribe(">").await.unwrap();

    proxy.hold();
    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let bus = near.clone();
            let request = Ask { what: number.to_string(), filling: vec![0; 200 << 10] };
            tokio::spawn(async move { bus.call_within(request, Duration::from_secs(50)).await })
        })
        .collect();
    for number in 0..CALLS {
        near.publish(event(number, 100 << 10)).await.unwrap();
    }
    within("the server to lose patience", async {
        while !fs::read_to_string(&log).unwrap_or_default().contains("Slow Consumer") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    proxy.release();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(within("a call", call).await.unwrap().unwrap(), told(&number.to_string()));
    }
    for number in 0..CALLS {
        let next = within("an event", heard.next()).await.unwrap().unwrap();
        assert_eq!(next.id, number.to_string(), "each event once, in order");
    }
    assert!(served.load(Ordering::SeqCst) >= CALLS);
}

/// The connection of a service hangs, and nobody says so: it is noticed in time, and calls, jobs and events go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hangs_is_left() {
    let server = Server::secured();
    let proxy = Proxy::start(server.port()).await;
    let far = NatsOptions { url: proxy.url(), wait: Duration::from_secs(30), ..server.options() };
    let (service, near) = (
        Bus::connect(far).await.unwrap(),
        Bus::connect(NatsOptions { wait: Duration::from_secs(30), ..server.options() }).await.unwrap(),
    );
    let _serving = service.serve(|request: Ask| async move { Ok(told(&request.what)) }).await.unwrap();
    let _working = works(&service).await.unwrap();
    let mut heard = service.subscribe(">").await.unwrap();
    proxy.cut();
    near.publish(event(1, 10)).await.unwrap();
    let (call, job) = tokio::join!(near.call(ask("x")), near.submit(Count { to: 5 }));
    assert_eq!(call.unwrap(), told("x"));
    assert_eq!(within("the job", job.unwrap().outcome()).await.unwrap().at, 5);
    assert_eq!(within("the event", heard.next()).await.unwrap().unwrap().id, "1");
}

/// Events wait in the stream, not in the subscriber.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_does_not_read_misses_nothing() {
    const EVENTS: usize = 3000;
    let server = Server::secured();
    let bus = server.bus().await;
    let mut heard = server.bus().await.subscribe(">").await.unwrap();
    for number in 0..EVENTS {
        bus.publish(event(number, 10)).await.unwrap();
    }
    for number in 0..EVENTS {
        assert_eq!(within("an event", heard.next()).await.unwrap().unwrap().id, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_jetstream_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = "accounts { A { users: [ { user: u, password: p } ] } }\nno_auth_user: u\n";
    for server in [configured(&directory, config), Server::without_jetstream()] {
        let status = within("the refusal", works(&server.bus().await)).await.unwrap_err();
        assert_eq!(status.code, Code::FailedPrecondition, "{status}");
        assert!(status.message.contains("JetStream is not enabled"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_is_refused_by_its_version() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hello = r#"INFO {"server_id":"x","server_name":"x","version":"2.8.4","go":"go1","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"proto":1,"client_id":1,"jetstream":true}"#;
            stream.write_all(format!("{hello}\r\n").as_bytes()).await.unwrap();
            let mut said = [0; 4096];
            while stream.read(&mut said).await.is_ok_and(|length| length > 0) {
                stream.write_all(b"PONG\r\n").await.unwrap();
            }
        }
    });
    let status = within("the refusal", Bus::connect(NatsOptions::new(url, "suite"))).await.unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition, "{status}");
    assert!(status.message.contains("2.8.4") && status.message.contains("2.9.0"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_server_are_named() {
    // One stream, and no room for the one of events.
    let server = Server::secured_with("{ max_streams: 1 }", "");
    let bus = server.bus().await;
    let _working = works(&bus).await.unwrap();
    let status = within("the refusal", bus.publish(event(1, 1))).await.unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted, "{status}");
    assert!(status.message.contains("BERTH_EVENTS") && status.message.contains("limits of the account"), "{status}");

    // Room for a few jobs only: the rest is refused, those that were taken are done.
    let server = Server::secured_with("{ max_file: 1MB }", "");
    let bus = server.bus().await;
    drop(works(&bus).await.unwrap());
    let mut taken = Vec::new();
    let status = loop {
        match within("an answer", bus.submit(Filled::of(100 << 10))).await {
            Ok(handle) => taken.push(handle),
            Err(status) => break status,
        }
        assert!(taken.len() < 20, "1 MB holds no more than ten of these");
    };
    assert_eq!(status.code, Code::ResourceExhausted, "{status}");
    let _working = bus.work(4, |_: Filled, _: JobContext<Filled>| async { Ok(Counted { at: 1 }) }).await.unwrap();
    assert!(taken.len() > 3, "{}", taken.len());
    for handle in taken {
        within("a job", handle.outcome()).await.unwrap();
    }
    within("room again", bus.submit(Filled::of(100 << 10)).await.unwrap().outcome()).await.unwrap();
}

/// The disk below the server's store is full: that is said by name; with room again, and the server started anew, all goes
/// on and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_server_is_named_and_survived() {
    let disk = TinyDisk::new(6 << 20).unwrap();
    let mut server = Server::secured_on(disk.path());
    let bus = server.bus().await;
    drop(works(&bus).await.unwrap());
    let first = bus.submit(Filled::of(10)).await.unwrap();
    let mut taken = Vec::new();
    let status = loop {
        match within("an answer", bus.submit(Filled::of(500 << 10))).await {
            Ok(handle) => taken.push(handle),
            Err(status) => break status,
        }
        assert!(taken.len() < 20, "6 MB are full");
    };
    assert!(matches!(status.code, Code::ResourceExhausted | Code::Unavailable), "{status}");
    assert!(status.message.contains("JetStream") || status.message.contains("not stored"), "{status}");

    server.kill();
    disk.resize(64 << 20).unwrap();
    server.revive(true);
    let _working =
        within("the workers to begin", bus.work(2, |_: Filled, _: JobContext<Filled>| async { Ok(Counted { at: 1 }) }))
            .await
            .unwrap();
    within("the first job", first.outcome()).await.unwrap();
    for handle in taken {
        within("a job", handle.outcome()).await.unwrap();
    }
    within("a new job", bus.submit(Filled::of(10)).await.unwrap().outcome()).await.unwrap();
}
