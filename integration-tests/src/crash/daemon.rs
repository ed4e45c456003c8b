//! `berth serve`, with fail points armed or not, on a machine that was just switched on or not.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use berth_testing::{
    berth::Berth,
    process::{Server, tail},
    wait::{Seen, wait_for},
};

/// How it is started.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Environment.
    pub(super) variables: Vec<(&'static str, String)>,
    /// Its configuration file.
    pub(super) file: &'static str,
    /// A file with the id of this start of the machine; by default the real one's.
    pub(super) boot_id: Option<PathBuf>,
}

/// A running daemon. Killed when dropped.
pub(super) struct Daemon {
    server: Server,
}

impl Daemon {
    /// Starts it.
    pub(super) fn start(berth: &Berth, name: &str, settings: &Settings) -> Result<Self> {
        let mut command = berth.command(["serve"]);
        if let Some(boot_id) = &settings.boot_id {
            command = after_boot(&command, boot_id);
        }
        for (key, value) in &settings.variables {
            command.env(key, value);
        }
        let file = berth.scratch().join(format!("{name}.toml"));
        std::fs::write(&file, settings.file)?;
        command.env("BERTH_CONFIG", file);
        let log = berth.scratch().join(format!("{name}.log"));
        Ok(Self { server: Server::start(name, &command, &log)? })
    }

    /// Waits until it answers; `false` if it ends first.
    pub(super) fn wait_until_ready(&mut self, berth: &Berth) -> Result<bool> {
        let Self { server } = self;
        Ok(wait_for("the daemon to answer or to end", Duration::from_secs(60), || {
            if server.ended().is_some() {
                return Seen::Yes(false);
            }
            let answers = || berth.run(["images", "ls"]).is_ok_and(|finished| finished.code == 0);
            if UnixStream::connect(berth.socket()).is_ok() && answers() {
                return Seen::Yes(server.ended().is_none());
            }
            Seen::NotYet(tail(&server.log(), 10))
        }))
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.server.ended().is_some()
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.server.kill();
    }

    pub(super) fn log(&self) -> String {
        self.server.log()
    }
}

/// The same command in a mount namespace where the machine's boot id is another one. Mounts made there end with it.
fn after_boot(command: &Command, boot_id: &Path) -> Command {
    let script = r#"mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@""#;
    let mut there = Command::new("unshare");
    there.args(["--mount", "--propagation", "private", "--", "sh", "-c", script]).arg(boot_id);
    there.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => there.env(key, value),
            None => there.env_remove(key),
        };
    }
    there
}
