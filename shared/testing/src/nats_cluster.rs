//! Three nats-servers that know one another, secured as one is; any of them can be killed and started again.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use crate::{nats_server::NatsServer, port::Port, wait::wait_until};

/// How many.
const SERVERS: usize = 3;

/// A running cluster. Ends when dropped.
pub struct NatsCluster {
    servers: Vec<NatsServer>,
    health: Vec<Port>,
    _routes: Vec<Port>,
}

impl NatsCluster {
    /// Starts one, with the configuration of `deploy/nats` and users made by `berth nats users`.
    pub fn secured() -> Result<Self> {
        let ports = || (0..SERVERS).map(|_| Port::reserve()).collect::<Result<Vec<_>>>();
        let (routes, health) = (ports()?, ports()?);
        let all: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{}", port.number())).collect();
        let first = NatsServer::secured_not_yet()?;
        let mut servers = (1..SERVERS).map(|_| first.same_again()).collect::<Result<Vec<_>>>()?;
        servers.insert(0, first);
        let mut started = Vec::new();
        for (number, server) in servers.into_iter().enumerate() {
            let name = format!("nats-{number}");
            let (route, health) =
                (all.get(number).cloned().unwrap_or_default(), health.get(number).map_or(0, Port::number));
            let mut server = server.with(&["--name", &name, "--cluster_name", "three", "--cluster", &route]);
            server = server.with(&["--routes", &all.join(","), "-m", &health.to_string()]);
            server.restart()?;
            started.push(server);
        }
        let cluster = Self { servers: started, health, _routes: routes };
        (0..SERVERS).for_each(|number| cluster.wait_until_healthy(number));
        Ok(cluster)
    }

    /// The numbers of its servers.
    #[must_use]
    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.servers.len()
    }

    /// All of them, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        self.servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    /// The certificate of their CA.
    ///
    /// # Panics
    ///
    /// If there is no server.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.servers.first().map(NatsServer::ca).unwrap_or_default()
    }

    /// The key of one of their users.
    #[must_use]
    pub fn nkey(&self, user: &str) -> PathBuf {
        self.servers.first().map(|server| server.nkey(user)).unwrap_or_default()
    }

    /// `kill -9` of one.
    pub fn kill(&mut self, number: usize) {
        if let Some(server) = self.servers.get_mut(number) {
            server.stop();
        }
    }

    /// Starts one again with what it had, and waits until it has caught up with the others.
    pub fn revive(&mut self, number: usize) -> Result<()> {
        if let Some(server) = self.servers.get_mut(number) {
            server.restart()?;
        }
        self.wait_until_healthy(number);
        Ok(())
    }

    fn wait_until_healthy(&self, number: usize) {
        let port = self.health.get(number).map_or(0, Port::number);
        let what = format!("server {number} of the cluster to have caught up");
        wait_until(
            &what,
            Duration::from_secs(60),
            || health(port).is_ok_and(|said| said.starts_with("HTTP/1.0 200")),
            || health(port),
        );
    }
}

fn health(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
