//! Berth as a daemon, and as processes around a nats-server: started for one pull, not counted until it begins. What NATS
//! costs a pull is the difference between the two.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};
use berth_testing::{
    nats_server::NatsServer,
    process::{Server, tail},
    wait::{Seen, wait_for},
};

use crate::measure::{self, Sample};

/// A process for each service, one of each.
const SERVICES: [&str; 7] = ["content", "metadata", "fetcher", "unpacker", "transfer", "gc", "gateway"];

/// Pulls through `berth serve`, or through services over NATS.
pub(crate) fn pull(berth: impl Fn() -> Command, over_nats: bool, image: &str, store: &Path) -> Result<Sample> {
    let (root, socket) = (store.join("root"), store.join("berth.sock"));
    let placed = |mut command: Command, args: &[&str]| {
        command.arg("--root").arg(&root).arg("--address").arg(&socket).args(args);
        command
    };
    let nats = if over_nats { Some(NatsServer::start()?) } else { None };
    let mut servers = Vec::new();
    let mut serve = |name: &str, args: &[&str]| -> Result<()> {
        let log = store.join(format!("{name}.log"));
        servers.push((Server::start(name, &placed(berth(), args), &log)?, log));
        Ok(())
    };
    match &nats {
        None => serve("daemon", &["serve"])?,
        Some(nats) => {
            for service in SERVICES {
                serve(service, &["serve", service, "--nats", &nats.url()])?;
            }
        }
    }
    ready(&mut servers, &socket, || placed(berth(), &["images", "ls"]))?;
    let mut pids: Vec<u32> = servers.iter().map(|(server, _)| server.pid()).collect();
    pids.extend(nats.as_ref().and_then(NatsServer::pid));
    let done = measure::run(&mut placed(berth(), &["pull", "--plain-http", image]), &pids, store);
    for (server, _) in servers.iter_mut().rev() {
        server.stop()?;
    }
    done
}

/// Waits until commands are answered.
fn ready(servers: &mut [(Server, PathBuf)], socket: &Path, list: impl Fn() -> Command) -> Result<()> {
    wait_for("the services to answer", Duration::from_secs(60), || {
        for (server, _) in servers.iter_mut() {
            if let Some(status) = server.ended() {
                return Seen::Yes(Some(format!("a service ended at once ({status}):\n{}", tail(&server.log(), 5))));
            }
        }
        // A command that finds no socket would take the store for itself.
        if UnixStream::connect(socket).is_err() {
            return Seen::NotYet("nobody listens".to_owned());
        }
        match list().output() {
            Ok(answer) if answer.status.success() => Seen::Yes(None),
            answer => Seen::NotYet(format!("{answer:?}")),
        }
    })
    .map_or(Ok(()), |why| bail!(why))
}
