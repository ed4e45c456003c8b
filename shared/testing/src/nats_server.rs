//! A real nats-server with JetStream, on a free port, with a directory of its own.

use std::process::Command;

use anyhow::Result;

use crate::{nats_listener::Listener, port::Port, process::Server};

/// A running nats-server. Ends when dropped.
pub struct NatsServer {
    directory: tempfile::TempDir,
    port: Port,
    server: Option<Server>,
}

impl NatsServer {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let mut nats = Self::not_yet()?;
        nats.run()?;
        Ok(nats)
    }

    /// One that does not run yet, for services that are started before their server; [`NatsServer::restart`] starts it.
    pub fn not_yet() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, port: Port::reserve()?, server: None })
    }

    fn run(&mut self) -> Result<()> {
        let mut command = Command::new("nats-server");
        command
            .args(["-js", "-a", "127.0.0.1", "-p"])
            .arg(self.port.number().to_string())
            .arg("-sd")
            .arg(self.directory.path().join("data"));
        let log = self.directory.path().join("log");
        let mut server = Server::start("nats-server", &command, &log)?;
        server.wait_for_port(self.port.number())?;
        self.server = Some(server);
        Ok(())
    }

    /// `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Subscribes, as any client can.
    pub fn listen(&self, subject: &str) -> Result<Listener> {
        Listener::subscribe(&self.address(), subject)
    }

    /// Ends it (`kill -9`).
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it, or starts it again on the same port with what it had.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.run()
    }
}
