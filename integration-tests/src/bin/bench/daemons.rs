//! Berth as a daemon, and as processes around a nats-server: started for one pull, not counted until it begins. What NATS
//! costs a pull is the difference between the two.

use std::{
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

/// Pulls through `berth serve`, or through services over NATS, by this command.
pub(crate) fn pull(berth: impl Fn() -> Command, over_nats: bool, pull: &[&str], store: &Path) -> Result<Sample> {
    let (root, socket) = (store.join("root"), store.join("berth.sock"));
    let placed = |mut command: Command, args: &[&str]| {
        command.arg("--root").arg(&root).arg("--address").arg(&socket).args(args);
        command
    };
    let health = |service: &str| store.join(format!("{service}.health")).display().to_string();
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
                let health = health(service);
                serve(service, &["serve", service, "--nats", &nats.url(), "--health-socket", &health])?;
            }
        }
    }
    // The streams of a new nats-server are made with the first workers, for good; a pull does not pay for that.
    for service in SERVICES.iter().filter(|_| nats.is_some()) {
        answered(&mut servers, || placed(berth(), &["healthcheck", "--health-socket", &health(service)]))?;
    }
    answered(&mut servers, || placed(berth(), &["images", "ls", "--daemon-only"]))?;
    let mut pids: Vec<u32> = servers.iter().map(|(server, _)| server.pid()).collect();
    pids.extend(nats.as_ref().and_then(NatsServer::pid));
    let done = measure::run(&mut placed(berth(), pull), &pids, store);
    for (server, _) in servers.iter_mut().rev() {
        server.stop()?;
    }
    done
}

/// Waits until a command succeeds.
fn answered(servers: &mut [(Server, PathBuf)], ask: impl Fn() -> Command) -> Result<()> {
    wait_for("the services to answer", Duration::from_secs(60), || {
        for (server, _) in servers.iter_mut() {
            if let Some(status) = server.ended() {
                return Seen::Yes(Some(format!("a service ended at once ({status}):\n{}", tail(&server.log(), 5))));
            }
        }
        match ask().output() {
            Ok(answer) if answer.status.success() => Seen::Yes(None),
            answer => Seen::NotYet(format!("{answer:?}")),
        }
    })
    .map_or(Ok(()), |why| bail!(why))
}
