//! The shapes Berth runs in, so that one scenario can be played in each.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    ops::Deref,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::{
    berth::Berth,
    nats_cluster::NatsCluster,
    nats_server::NatsServer,
    process::{Server, tail},
    wait::wait_until,
};

/// How the services run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No daemon: each command starts them inside itself.
    Alone,
    /// One daemon with all of them; commands talk to its socket.
    Daemon,
    /// A process for each, around a nats-server, some of them twice; commands talk to the gateway's socket.
    Nats,
}

/// The services of a deployment over NATS: name, and what follows `serve`.
const SERVICES: &[(&str, &str)] = &[
    ("content", "content"),
    ("metadata", "metadata"),
    ("fetcher-1", "fetcher"),
    ("fetcher-2", "fetcher"),
    ("unpacker-1", "unpacker"),
    ("unpacker-2", "unpacker"),
    ("transfer", "transfer"),
    ("gc", "gc"),
    ("gateway", "gateway"),
];

/// Berth on an empty root, with what the shape needs running around it.
pub struct Stage {
    // Ended in this order: the servers before the root directory they use.
    servers: BTreeMap<String, Server>,
    nats: Option<NatsServer>,
    /// Somebody else's nats-server, and where the keys for it are.
    shared: Option<(String, Option<PathBuf>)>,
    berth: Berth,
    shape: Shape,
}

impl Deref for Stage {
    type Target = Berth;

    fn deref(&self) -> &Berth {
        &self.berth
    }
}

impl Stage {
    /// Starts what the shape needs and waits until it answers.
    pub fn start(shape: Shape) -> Result<Self> {
        Self::start_on(shape, Berth::new()?)
    }

    /// The same, on a root that is prepared already.
    pub fn start_on(shape: Shape, berth: Berth) -> Result<Self> {
        let mut stage = Self { servers: BTreeMap::new(), nats: None, shared: None, berth, shape };
        match shape {
            Shape::Alone => {}
            Shape::Daemon => stage.serve("daemon", &[])?,
            // All scenarios can be played with users and their permissions, too.
            Shape::Nats if std::env::var_os("BERTH_TEST_SECURED").is_some() => {
                stage.put_around(NatsServer::secured_not_yet()?);
                stage.nats().restart()?;
                return stage.start_services().map(|()| stage);
            }
            Shape::Nats => {
                stage.nats = Some(NatsServer::start()?);
                return stage.start_services().map(|()| stage);
            }
        }
        if shape != Shape::Alone {
            stage.wait_until_ready();
        }
        Ok(stage)
    }

    /// Over NATS, but nothing runs yet: not even the nats-server.
    pub fn nats_not_started() -> Result<Self> {
        let mut stage = Self::on_nats()?;
        stage.put_around(NatsServer::not_yet()?);
        Ok(stage)
    }

    /// Over NATS as it is shipped: encrypted, and each service a user that may do what it needs and nothing else.
    pub fn secured() -> Result<Self> {
        let mut stage = Self::secured_not_started()?;
        stage.nats().restart()?;
        stage.start_services()?;
        Ok(stage)
    }

    /// The same, but nothing runs yet.
    pub fn secured_not_started() -> Result<Self> {
        let mut stage = Self::on_nats()?;
        stage.put_around(NatsServer::secured_not_yet()?);
        Ok(stage)
    }

    /// Over a nats-server that others use, too; nothing runs yet.
    pub fn beside_others(url: &str, prefix: &str) -> Result<Self> {
        let mut stage = Self::on_nats()?;
        stage.berth.set("BERTH_NATS_PREFIX", prefix);
        stage.shared = Some((url.to_owned(), None));
        Ok(stage)
    }

    /// Over a cluster, streams on all of its servers; nothing runs yet.
    pub fn on_cluster(cluster: &NatsCluster) -> Result<Self> {
        let mut stage = Self::on_nats()?;
        stage.berth.set("BERTH_NATS_CA", &cluster.ca().display().to_string());
        stage.berth.set("BERTH_NATS_REPLICAS", &cluster.numbers().len().to_string());
        stage.shared = Some((cluster.url(), cluster.nkey("gateway").parent().map(Path::to_owned)));
        Ok(stage)
    }

    fn on_nats() -> Result<Self> {
        Ok(Self { servers: BTreeMap::new(), nats: None, shared: None, berth: Berth::new()?, shape: Shape::Nats })
    }

    /// Commands that join the bus are the user `gateway` there.
    fn put_around(&mut self, nats: NatsServer) {
        if nats.is_secured() {
            self.berth.set("BERTH_NATS_CA", &nats.ca().display().to_string());
            self.berth.set("BERTH_NATS_NKEY_FILE", &nats.nkey("gateway").display().to_string());
        }
        self.nats = Some(nats);
    }

    /// Starts all services over NATS and waits until they answer.
    pub fn start_services(&mut self) -> Result<()> {
        for (name, _) in SERVICES {
            self.start_service(name)?;
        }
        self.wait_until_ready();
        Ok(())
    }

    /// How the services run.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The nats-server of the deployment.
    ///
    /// # Panics
    ///
    /// In the other shapes.
    pub fn nats(&mut self) -> &mut NatsServer {
        let Some(nats) = &mut self.nats else {
            panic!("no nats-server in this shape");
        };
        nats
    }

    /// The names of the services over NATS (`fetcher-1`, ...).
    #[must_use]
    pub fn services() -> Vec<&'static str> {
        SERVICES.iter().map(|(name, _)| *name).collect()
    }

    /// Starts a service over NATS, or starts it again.
    pub fn start_service(&mut self, name: &str) -> Result<()> {
        let service = SERVICES.iter().find(|(known, _)| *known == name).map_or(name, |(_, service)| service);
        self.start_another(name, service)
    }

    /// Starts a service over NATS under a name of its own, beside others of its kind.
    pub fn start_another(&mut self, name: &str, service: &str) -> Result<()> {
        let (url, nkey) = match self.shared.clone() {
            Some((url, keys)) => (url, keys.map(|keys| keys.join(format!("{service}.nk")))),
            None => {
                let nats = self.nats();
                (nats.url(), nats.is_secured().then(|| nats.nkey(service)))
            }
        };
        let nkey = nkey.map(|file| file.display().to_string());
        let mut args = vec![service, "--nats", &url];
        if let Some(nkey) = &nkey {
            args.extend(["--nats-nkey-file", nkey]);
        }
        self.serve(name, &args)
    }

    /// Starts `berth serve` with these arguments, under a name.
    pub fn serve(&mut self, name: &str, args: &[&str]) -> Result<()> {
        self.servers.remove(name);
        let log = self.berth.scratch().join(format!("{name}.log"));
        let all: Vec<&OsStr> = ["serve"].iter().chain(args).map(OsStr::new).collect();
        let server = Server::start(name, &self.berth.command(all), &log)?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// A server by the name it was started under.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn server(&mut self, name: &str) -> &mut Server {
        let Some(server) = self.servers.get_mut(name) else {
            panic!("no server {name}");
        };
        server
    }

    /// `kill -9` of one service.
    pub fn kill(&mut self, name: &str) {
        self.server(name).kill();
        self.servers.remove(name);
    }

    /// Waits until commands are answered over the socket.
    ///
    /// # Panics
    ///
    /// After a minute.
    pub fn wait_until_ready(&mut self) {
        let berth = &self.berth;
        let servers = &mut self.servers;
        // A socket that a dead gateway left refuses; a command would then take the store for itself.
        let answered = || {
            UnixStream::connect(berth.socket()).is_ok()
                && berth.run(["images", "ls"]).is_ok_and(|finished| finished.code == 0)
        };
        wait_until("the services to answer", Duration::from_secs(60), answered, || {
            let logs = servers
                .iter_mut()
                .map(|(name, server)| format!("-- {name}: {:?}\n{}", server.ended(), tail(&server.log(), 5)));
            logs.collect::<Vec<_>>().join("\n")
        });
    }
}
