//! A server that belongs to a test: started on a free port, its output kept for the report, gone when the test is.

use std::{
    fs::File,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{Seen, wait_for};

/// A running program whose output goes to a file. Killed when dropped, and also when the test dies without dropping it.
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; its output is appended to `log`.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let output =
            File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        // The kernel ends it with its parent, even if a test runner kills the test.
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => tied.env(key, value),
                None => tied.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            tied.current_dir(directory);
        }
        let child = tied
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// Waits until something accepts connections on the port; an error if the program ends first.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        let limit = Duration::from_secs(30);
        let ended = wait_for(&format!("{} on port {port}", self.name), limit, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                Seen::Yes(Some(status))
            } else if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                Seen::Yes(None)
            } else {
                Seen::NotYet(self.log())
            }
        });
        if let Some(status) = ended {
            bail!("{} ended at once ({status}):\n{}", self.name, self.log());
        }
        Ok(())
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Panics
    ///
    /// If it is still there after 20 s.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let what = format!("{} to end", self.name);
        Ok(wait_for(&what, Duration::from_secs(20), || match self.child.try_wait() {
            Ok(Some(status)) => Seen::Yes(status),
            _ => Seen::NotYet(std::fs::read_to_string(&self.log).unwrap_or_default()),
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, tail(&self.log(), 60));
        }
    }
}

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
