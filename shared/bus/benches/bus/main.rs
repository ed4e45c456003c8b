//! What a call, a job and an event cost, in both homes: latency of one after the other, throughput of many at once.
//!
//! `cargo bench -p berth-bus` prints a table for `docs/PERFORMANCE.md`; it needs nats-server. `BERTH_BENCH_SECONDS` is how long
//! each measurement takes (2).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that fails should say where, and prints its figures"
)]

mod measure;

use std::env;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_bus::{Bus, BusEvent, Call, Job, JobContext, NatsOptions};
use berth_testing::port::Port;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::measure::{Figures, at_once, one_by_one};

/// What is under way at a time when throughput is measured.
const AT_ONCE: usize = 64;
/// A common size of what travels: a record, a progress report.
const PAYLOAD: usize = 256;

#[derive(Clone, PartialEq, prost::Message)]
struct Ask {
    #[prost(bytes = "vec", tag = "1")]
    filling: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(bytes = "vec", tag = "1")]
    filling: Vec<u8>,
}

impl Call for Ask {
    const SUBJECT: &'static str = "bench.v1.Ask";
    type Reply = Told;
}

#[derive(Clone, PartialEq, prost::Message)]
struct Work {
    #[prost(bytes = "vec", tag = "1")]
    filling: Vec<u8>,
}

impl Job for Work {
    const KIND: &'static str = "bench";
    type Progress = Told;
    type Outcome = Told;
    fn key(&self) -> String {
        "bench".to_owned()
    }
}

/// Where the buses of a measurement are.
struct Home {
    name: &'static str,
    url: Option<String>,
    bus: Bus,
}

impl Home {
    async fn other(&self) -> Bus {
        match &self.url {
            Some(url) => Bus::connect(NatsOptions::new(url, "bench")).await.unwrap(),
            None => self.bus.clone(),
        }
    }
}

fn filling() -> Vec<u8> {
    vec![7; PAYLOAD]
}

#[tokio::main]
async fn main() {
    let time = Duration::from_secs(env::var("BERTH_BENCH_SECONDS").map_or(2, |text| text.parse().unwrap()));
    let store = tempfile::tempdir().unwrap();
    let server = Server::start(&store);
    let remote = Bus::connect(NatsOptions::new(&server.url, "bench")).await.unwrap();
    let homes = [
        Home { name: "in process", url: None, bus: Bus::in_process() },
        Home { name: "NATS", url: Some(server.url.clone()), bus: remote },
    ];
    println!("| verb | home | one by one: median | 99 % | {AT_ONCE} at once |\n| --- | --- | ---: | ---: | ---: |");
    for home in &homes {
        print("call and reply", home, calls(home, time).await);
    }
    for home in &homes {
        print("job, submitted to done", home, jobs(home, time).await);
    }
    for home in &homes {
        print("event, published to heard", home, events(home, time).await);
    }
}

fn print(verb: &str, home: &Home, figures: Figures) {
    let Figures { median, worst, a_second } = figures;
    println!("| {verb} | {} | {median} | {worst} | {a_second} /s |", home.name);
}

async fn calls(home: &Home, time: Duration) -> Figures {
    let server = home.other().await;
    let _serving = server.serve(|request: Ask| async move { Ok(Told { filling: request.filling }) }).await.unwrap();
    let call = || {
        let bus = home.bus.clone();
        async move { drop(bus.call(Ask { filling: filling() }).await.unwrap()) }
    };
    call().await;
    Figures::new(one_by_one(time, call).await, at_once(time, AT_ONCE, call).await)
}

async fn jobs(home: &Home, time: Duration) -> Figures {
    let worker = home.other().await;
    let handler = |job: Work, _: JobContext<Work>| async move { Ok(Told { filling: job.filling }) };
    let _working = worker.work(AT_ONCE, handler).await.unwrap();
    let submit = || {
        let bus = home.bus.clone();
        async move { drop(bus.submit(Work { filling: filling() }).await.unwrap().outcome().await.unwrap()) }
    };
    submit().await;
    Figures::new(one_by_one(time, submit).await, at_once(time, AT_ONCE, submit).await)
}

async fn events(home: &Home, time: Duration) -> Figures {
    let mut heard = home.other().await.subscribe(">").await.unwrap();
    let news = Arc::new(Notify::new());
    let listener = Arc::clone(&news);
    let listening = tokio::spawn(async move {
        while heard.next().await.is_some() {
            listener.notify_one();
        }
    });
    let event = || BusEvent {
        subject: "bench.things.happen".to_owned(),
        id: uuid::Uuid::now_v7().to_string(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from(filling()),
    };
    let publish = || {
        let (bus, event) = (home.bus.clone(), event());
        async move { bus.publish(event).await.unwrap() }
    };
    let told = || {
        let (sent, news) = (publish(), Arc::clone(&news));
        async move {
            sent.await;
            news.notified().await;
        }
    };
    told().await;
    let latency = one_by_one(time, told).await;
    listening.abort();
    Figures::new(latency, at_once(time, AT_ONCE, publish).await)
}

/// A nats-server for this, on a disk.
struct Server {
    child: Child,
    url: String,
    _port: Port,
}

impl Server {
    fn start(store: &tempfile::TempDir) -> Self {
        let port = Port::reserve().unwrap();
        let number = port.number();
        let child = Command::new("nats-server")
            .args(["-js", "-a", "127.0.0.1", "-p", &number.to_string(), "-sd"])
            .arg(store.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", number)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nats-server does not listen");
            std::thread::yield_now();
        }
        Self { child, url: format!("nats://127.0.0.1:{number}"), _port: port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
