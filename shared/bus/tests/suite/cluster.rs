//! A cluster of three servers with streams on all of them: any one is killed while calls, jobs and events go on.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use berth_bus::{Bus, BusEvent, JobContext, NatsOptions};
use berth_model::Status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::homes::{free_port, listens, within};
use crate::messages::{Ask, Count, Counted, ask, told};
use crate::papers::Keyring;

const SERVERS: usize = 3;

/// Three servers that know one another.
struct Cluster {
    /// Of each: for clients, for the others, for questions of its health.
    ports: Vec<[u16; 3]>,
    servers: Vec<Child>,
    directory: tempfile::TempDir,
    keys: Keyring,
}

impl Cluster {
    fn start() -> Self {
        let ports = (0..SERVERS).map(|_| [free_port(), free_port(), free_port()]).collect();
        let (directory, keys) = (tempfile::tempdir().unwrap(), Keyring::new());
        let mut cluster = Self { ports, servers: Vec::new(), directory, keys };
        cluster.servers = (0..SERVERS).map(|number| cluster.spawn(number)).collect();
        cluster
    }

    fn spawn(&self, number: usize) -> Child {
        let [client, route, health] = self.ports[number];
        let routes: Vec<_> = self.ports.iter().map(|[_, route, _]| format!("nats://127.0.0.1:{route}")).collect();
        let child = Command::new("nats-server")
            .args(["-js", "-a", "127.0.0.1", "-p", &client.to_string(), "--name", &format!("n{number}"), "-sd"])
            .arg(self.directory.path().join(number.to_string()))
            .arg("-c")
            .arg(self.keys.config("enabled", ""))
            .args(["--cluster_name", "three", "--cluster", &format!("nats://127.0.0.1:{route}")])
            .args(["--routes", &routes.join(","), "-m", &health.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        listens(client);
        child
    }

    /// Waits until a server has caught up with the others: only then another one may go.
    async fn is_healthy(&self, number: usize) {
        let [.., health] = self.ports[number];
        within(&format!("server {number} to have caught up"), async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", health)).await {
                    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
                    let mut answer = String::new();
                    if stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.0 200") {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    fn kill(&mut self, number: usize) {
        self.servers[number].kill().unwrap();
        self.servers[number].wait().unwrap();
    }

    async fn bus(&self) -> Bus {
        let urls: Vec<_> = self.ports.iter().map(|[client, ..]| format!("tls://127.0.0.1:{client}")).collect();
        let options = NatsOptions {
            replicas: SERVERS,
            role: Keyring::ROLE.to_owned(),
            ..NatsOptions::new(urls.join(","), "suite")
        };
        Bus::connect(NatsOptions { security: self.keys.security("berth"), ..options }).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

fn event(number: usize) -> BusEvent {
    BusEvent { subject: "a".into(), id: number.to_string(), headers: Vec::new(), body: bytes::Bytes::new() }
}

/// Does something again and again until it is to stop; each time has to end well.
fn again<F>(
    stop: &Arc<AtomicBool>,
    count: &Arc<AtomicUsize>,
    mut one: impl FnMut(usize) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = Result<(), Status>> + Send,
{
    let (stop, count) = (Arc::clone(stop), Arc::clone(count));
    tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            one(count.load(Ordering::SeqCst)).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_server_of_three_may_be_killed() {
    let mut cluster = Cluster::start();
    let (server, client) = (cluster.bus().await, cluster.bus().await);
    let _serving = server.serve(|_: Ask| async { Ok(told("heard")) }).await.unwrap();
    let handler = |job: Count, _: JobContext<Count>| async move { Ok(Counted { at: job.to }) };
    let _working = within("the workers to begin", server.work(2, handler)).await.unwrap();
    client.publish(event(usize::MAX)).await.unwrap();
    let mut heard = within("the subscription", cluster.bus().await.subscribe(">")).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let counts: [Arc<AtomicUsize>; 3] = Default::default();
    let [calls, jobs, events] = &counts;
    let bus = client.clone();
    let calling = again(&stop, calls, move |_| {
        let bus = bus.clone();
        async move { bus.call(ask("x")).await.map(drop) }
    });
    let bus = client.clone();
    let submitting = again(&stop, jobs, move |number| {
        let bus = bus.clone();
        async move {
            let to = u32::try_from(number).unwrap();
            let done = bus.submit(Count { to }).await?.outcome().await?;
            assert_eq!(done.at, to);
            Ok(())
        }
    });
    let bus = client.clone();
    let publishing = again(&stop, events, move |number| {
        let bus = bus.clone();
        async move { bus.publish(event(number)).await }
    });

    for number in 0..SERVERS {
        cluster.kill(number);
        // With one server less everything goes on, not only what was under way.
        let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        within(&format!("work to go on without server {number}"), async {
            while counts.iter().zip(before).any(|(count, before)| count.load(Ordering::SeqCst) < before + 20) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        cluster.servers[number] = cluster.spawn(number);
        cluster.is_healthy(number).await;
    }
    stop.store(true, Ordering::SeqCst);
    for task in [calling, submitting, publishing] {
        within("the rest", task).await.unwrap();
    }
    for number in 0..counts[2].load(Ordering::SeqCst) {
        let next = within(&format!("event {number}"), heard.next()).await.unwrap().unwrap();
        assert_eq!(next.id, number.to_string(), "each event once, in order");
    }
}
