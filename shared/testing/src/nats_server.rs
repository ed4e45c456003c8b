//! A real nats-server with JetStream, on a free port, with a directory of its own: open to all, or secured as it is shipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{berth, nats_listener::Listener, port::Port, process::Server};

/// A running nats-server. Ends when dropped.
pub struct NatsServer {
    directory: tempfile::TempDir,
    port: Port,
    server: Option<Server>,
    is_secured: bool,
    more: Vec<String>,
    /// Whether the test means to do what is not permitted.
    trespasses: bool,
}

impl Drop for NatsServer {
    /// With users that may do what they need, nothing that a test does is refused.
    fn drop(&mut self) {
        self.server = None;
        let log = self.log();
        let refused: Vec<&str> = log.lines().filter(|line| line.contains("Violation")).collect();
        assert!(
            std::thread::panicking() || self.trespasses || refused.is_empty(),
            "the NATS server refused what somebody needed:\n{}",
            refused.join("\n")
        );
    }
}

impl NatsServer {
    /// Starts one that serves everybody.
    pub fn start() -> Result<Self> {
        let mut nats = Self::not_yet()?;
        nats.run()?;
        Ok(nats)
    }

    /// One that does not run yet, for services that are started before their server; [`NatsServer::restart`] starts it.
    pub fn not_yet() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self {
            directory,
            port: Port::reserve()?,
            server: None,
            is_secured: false,
            more: Vec::new(),
            trespasses: false,
        })
    }

    /// One with the configuration of `deploy/nats` and users made by `berth nats users`, which does not run yet.
    pub fn secured_not_yet() -> Result<Self> {
        let mut nats = Self::not_yet()?;
        secure(nats.directory.path(), "berth")?;
        nats.is_secured = true;
        Ok(nats)
    }

    /// Another one with the same certificates and users, which does not run yet.
    pub fn same_again(&self) -> Result<Self> {
        let mut other = Self::not_yet()?;
        other.is_secured = true;
        let (from, to) = (self.directory.path(), other.directory.path());
        let done = Command::new("cp")
            .arg("-a")
            .args(["certs", "users", "sync.conf"].map(|name| from.join(name)))
            .arg(to)
            .status()?;
        ensure!(done.success(), "copy {} to {}", from.display(), to.display());
        let config = fs::read_to_string(from.join("nats.conf"))?;
        fs::write(to.join("nats.conf"), config.replace(&from.display().to_string(), &to.display().to_string()))?;
        Ok(other)
    }

    /// Arguments for the server from its next start on.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.more.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The test is going to do what is not permitted.
    pub fn expect_refusals(&mut self) {
        self.trespasses = true;
    }

    /// Changes its configuration, from its next start on; `what` must be in it.
    ///
    /// # Panics
    ///
    /// If it is not, or if the server has no configuration file.
    pub fn reconfigure(&self, what: &str, with: &str) -> Result<()> {
        let file = self.directory.path().join("nats.conf");
        let text = fs::read_to_string(&file)?;
        assert!(text.contains(what), "{what:?} is in {text}");
        Ok(fs::write(file, text.replace(what, with))?)
    }

    fn run(&mut self) -> Result<()> {
        let directory = self.directory.path();
        let mut command = Command::new("nats-server");
        if self.is_secured {
            command.arg("-c").arg(directory.join("nats.conf"));
        } else {
            command.arg("-js").arg("-sd").arg(directory.join("data"));
        }
        command.args(["-a", "127.0.0.1", "-p"]).arg(self.port.number().to_string()).args(&self.more);
        let log = directory.join("log");
        let mut server = Server::start("nats-server", &command, &log)?;
        server.wait_for_port(self.port.number())?;
        self.server = Some(server);
        Ok(())
    }

    /// `nats://127.0.0.1:PORT`, or `tls://...`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_secured { "tls" } else { "nats" }, self.address())
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Whether it is encrypted and knows its users.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.is_secured
    }

    /// The certificate of its CA.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("certs/ca.pem")
    }

    /// The key of one of its users.
    #[must_use]
    pub fn nkey(&self, user: &str) -> PathBuf {
        self.directory.path().join("users").join(format!("{user}.nk"))
    }

    /// Its process id, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
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

/// Whether the nats-server here lets `sync_interval` be set: 2.10 and newer do.
fn can_sync_always() -> Result<bool> {
    let said = Command::new("nats-server").arg("--version").output().context("nats-server must be installed")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let minor =
        said.split("v2.").nth(1).and_then(|rest| rest.split('.').next()).and_then(|minor| minor.parse::<u32>().ok());
    Ok(minor.is_none_or(|minor| minor >= 10))
}

/// Sets a directory up as `/etc/nats` is, with the shipped files.
pub(crate) fn secure(directory: &Path, prefix: &str) -> Result<()> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats");
    let done = |command: &mut Command| -> Result<()> {
        let output = command.output().with_context(|| format!("start {command:?}"))?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    done(Command::new(shipped.join("certificates")).arg(directory.join("certs")))?;
    done(
        Command::new(berth::binary())
            .args(["nats", "users", "--nats-prefix", prefix, "--out"])
            .arg(directory.join("users")),
    )?;
    let config = fs::read_to_string(shipped.join("nats.conf"))?;
    let here = directory.display().to_string();
    let config =
        [("/etc/nats", here.as_str()), ("\"/data\"", &format!("\"{here}/data\"")), ("127.0.0.1:8222", "127.0.0.1:-1")]
            .iter()
            .fold(config, |config, (what, with)| config.replace(what, with));
    fs::write(directory.join("nats.conf"), config)?;
    let sync = if can_sync_always()? { fs::read_to_string(shipped.join("sync.conf"))? } else { String::new() };
    fs::write(directory.join("sync.conf"), sync)?;
    Ok(())
}
