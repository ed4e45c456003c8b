//! A network link whose rate is known: two network namespaces with a pair of interfaces between them, and a token bucket
//! (`tc tbf`) that lets so many bits a second through to the near end.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::wait::{Seen, wait_for};

/// The address at the far end. Nobody else is in these namespaces, so all links have the same.
pub const FAR: &str = "192.0.2.1";
const NEAR: &str = "192.0.2.2";

static MADE: AtomicU32 = AtomicU32::new(0);

/// The link; it and its namespaces go when this is dropped.
#[derive(Debug)]
pub struct Link {
    name: String,
}

impl Link {
    /// Lets so many bits a second come from the far end. Needs root, and `ip` and `tc` (package iproute2).
    pub fn new(bits_per_second: u64) -> Result<Self> {
        let name = format!("berth-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let link = Self { name };
        let (near, far) = (link.near(), link.far());
        for namespace in [&near, &far] {
            run("ip", &["netns", "add", namespace])?;
        }
        run("ip", &["-n", &far, "link", "add", "far", "type", "veth", "peer", "name", "near", "netns", &near])?;
        for (namespace, interface, address) in [(&far, "far", FAR), (&near, "near", NEAR)] {
            run("ip", &["-n", namespace, "address", "add", &format!("{address}/24"), "dev", interface])?;
            for interface in ["lo", interface] {
                run("ip", &["-n", namespace, "link", "set", interface, "up"])?;
            }
        }
        let rate = format!("{bits_per_second}bit");
        let shape = ["qdisc", "add", "dev", "far", "root", "tbf", "rate", &rate, "burst", "32k", "latency", "200ms"];
        run("tc", &[&["-n", far.as_str()], &shape[..]].concat())?;
        Ok(link)
    }

    fn near(&self) -> String {
        format!("{}-near", self.name)
    }

    fn far(&self) -> String {
        format!("{}-far", self.name)
    }

    /// The words that run a program at the near end.
    #[must_use]
    pub fn near_words(&self) -> [String; 2] {
        words(&self.near())
    }

    /// A program at the far end.
    #[must_use]
    pub fn far_command(&self, program: &str) -> Command {
        let [enter, namespace] = words(&self.far());
        let mut command = Command::new(enter);
        command.args([&namespace, "--", program]);
        command
    }

    /// Waits until something at the far end accepts connections.
    pub(crate) fn wait_for_port(&self, port: u16, log: impl Fn() -> String) -> Result<()> {
        let what = format!("port {port} at the far end of a link");
        wait_for(&what, Duration::from_secs(30), || {
            match self.far_command("ss").args(["-Hltn", &format!("sport = :{port}")]).output() {
                Err(error) => Seen::Yes(Err(error).context("ss (package iproute2)")),
                Ok(said) if said.stdout.is_empty() => Seen::NotYet(log()),
                Ok(_listens) => Seen::Yes(Ok(())),
            }
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [self.near(), self.far()] {
            if let Err(error) = run("ip", &["netns", "delete", &namespace]) {
                eprintln!("{error}");
            }
        }
    }
}

/// Not `ip netns exec`: that would give the program a mount table of its own, too.
fn words(namespace: &str) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net=/run/netns/{namespace}")]
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let done = Command::new(program).args(words).output().with_context(|| format!("{program} (package iproute2)"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {}: {}", words.join(" "), said.trim());
    Ok(())
}
