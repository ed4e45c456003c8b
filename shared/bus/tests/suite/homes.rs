//! The homes of the suite: one in-process bus, or a nats-server of its own on a free port.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_bus::{Bus, NatsOptions};

use crate::papers::Keyring;

/// How long the buses of the suite wait for services and workers to appear.
pub(crate) const WAIT: Duration = Duration::from_secs(3);
/// No condition takes longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Somewhere for a bus to live.
pub(crate) enum Home {
    InProcess(Bus),
    Nats(Box<Server>),
}

impl Home {
    pub(crate) fn in_process() -> Self {
        Home::InProcess(Bus::in_process_waiting(WAIT))
    }

    pub(crate) fn nats() -> Self {
        Home::Nats(Box::new(Server::secured()))
    }

    /// A bus in this home; over NATS a connection of its own.
    pub(crate) async fn bus(&self) -> Bus {
        match self {
            Home::InProcess(bus) => bus.clone(),
            Home::Nats(server) => server.bus().await,
        }
    }

    /// A bus that must not meet the others.
    pub(crate) async fn other_bus(&self) -> Bus {
        match self {
            Home::InProcess(_) => Bus::in_process_waiting(WAIT),
            Home::Nats(server) => {
                let security = server.keys.as_ref().map(|keys| keys.security("other")).unwrap_or_default();
                Bus::connect(NatsOptions { prefix: "other".into(), security, ..server.options() }).await.unwrap()
            }
        }
    }
}

/// A nats-server that ends with this value.
pub(crate) struct Server {
    child: Child,
    port: u16,
    args: Vec<String>,
    directory: Option<tempfile::TempDir>,
    keys: Option<Keyring>,
}

impl Server {
    /// With JetStream, on a directory of its own.
    pub(crate) fn start(extra: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().display().to_string();
        Self::run(&[&["-js", "-sd", &store], extra].concat(), Some(directory))
    }

    /// The same, encrypted, and with a user that may do what the suite does and nothing else.
    pub(crate) fn secured() -> Self {
        Self::secured_with("enabled", "")
    }

    /// The same with limits of the account for JetStream, and more in the configuration.
    pub(crate) fn secured_with(jetstream: &str, more: &str) -> Self {
        let (keys, directory) = (Keyring::new(), tempfile::tempdir().unwrap());
        let (config, store) = (keys.config(jetstream, more), directory.path().display().to_string());
        let args = ["-js", "-sd", &store, "-c", config.to_str().unwrap()];
        let mut server = Self::run(&args, Some(directory));
        server.keys = Some(keys);
        server
    }

    /// The same, on a directory of somebody else's.
    pub(crate) fn secured_on(store: &std::path::Path) -> Self {
        let keys = Keyring::new();
        let config = keys.config("enabled", "");
        let args = ["-js", "-sd", store.to_str().unwrap(), "-c", config.to_str().unwrap()];
        let mut server = Self::run(&args, None);
        server.keys = Some(keys);
        server
    }

    pub(crate) fn without_jetstream() -> Self {
        Self::run(&[], None)
    }

    fn run(args: &[&str], directory: Option<tempfile::TempDir>) -> Self {
        let port = free_port();
        let args: Vec<String> = args.iter().map(|one| (*one).to_owned()).collect();
        let child = spawn(port, &args);
        let server = Self { child, port, args, directory, keys: None };
        server.wait_until_up();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.keys.is_some() { "tls" } else { "nats" }, self.port)
    }

    pub(crate) fn options(&self) -> NatsOptions {
        let options = NatsOptions { wait: WAIT, ..NatsOptions::new(self.url(), "suite") };
        match &self.keys {
            Some(keys) => {
                NatsOptions { role: Keyring::ROLE.to_owned(), security: keys.security(&options.prefix), ..options }
            }
            None => options,
        }
    }

    pub(crate) async fn bus(&self) -> Bus {
        Bus::connect(self.options()).await.unwrap()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port, with or without what it had stored.
    pub(crate) fn revive(&mut self, keep: bool) {
        if let (false, Some(directory)) = (keep, &self.directory) {
            std::fs::remove_dir_all(directory.path()).unwrap();
        }
        self.child = spawn(self.port, &self.args);
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        listens(self.port);
    }
}

/// Waits until a server listens.
pub(crate) fn listens(port: u16) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "nats-server does not listen on port {port}");
        std::thread::yield_now();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(port: u16, args: &[String]) -> Child {
    Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server (2.9 or newer) must be installed and on the PATH to test the bus over NATS")
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for `work`, and fails by name instead of hanging.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_elapsed) => panic!("{what}: nothing after {PATIENCE:?}"),
    }
}
