//! Debian's docker-registry, on a free port, with a directory of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    link::{FAR, Link},
    port::Port,
    process::Server,
};

/// The version of HTTP that is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// 1.1 only.
    Http1,
    /// 2 with whoever asks for it, 1.1 with others.
    Http2,
}

/// A real registry. Ends when dropped.
pub struct DockerRegistry {
    directory: tempfile::TempDir,
    /// Where its blobs are.
    data: PathBuf,
    port: Port,
    login: Option<(String, String)>,
    tls: Option<Tls>,
    server: Option<Server>,
    /// The link that it is at the far end of.
    behind: Option<Link>,
}

impl DockerRegistry {
    /// Starts one that anybody may read and write.
    pub fn start() -> Result<Self> {
        Self::start_with(None, None)
    }

    /// Starts one that asks for this name and password (basic authentication).
    pub fn start_with_login(name: &str, password: &str) -> Result<Self> {
        Self::start_with(Some((name.to_owned(), password.to_owned())), None)
    }

    /// Starts one more, which has what this one has while this one is there, over TLS with a certificate that nobody signed.
    pub fn over_tls(&self, tls: Tls) -> Result<Self> {
        Self::start_with(self.login.clone(), Some((tls, &self.data)))
    }

    fn start_with(login: Option<(String, String)>, over_tls: Option<(Tls, &Path)>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (tls, data) = over_tls.unzip();
        let data = data.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let mut registry = Self { directory, data, port: Port::reserve()?, login, tls, server: None, behind: None };
        registry.run()?;
        Ok(registry)
    }

    fn run(&mut self) -> Result<()> {
        let config = self.directory.path().join("config.yml");
        fs::write(&config, self.config()?)?;
        let mut command = match &self.behind {
            None => Command::new("docker-registry"),
            Some(link) => link.far_command("docker-registry"),
        };
        command.arg("serve").arg(&config);
        let mut server = Server::start("docker-registry", &command, &self.log_file())?;
        match &self.behind {
            None => server.wait_for_port(self.port.number())?,
            Some(link) => link.wait_for_port(self.port.number(), || server.log())?,
        }
        self.server = Some(server);
        Ok(())
    }

    fn config(&self) -> Result<String> {
        let auth = match &self.login {
            None => String::new(),
            Some((name, password)) => {
                let file = self.directory.path().join("htpasswd");
                let made = Command::new("htpasswd")
                    .args(["-nbB", name, password])
                    .output()
                    .context("htpasswd (package apache2-utils)")?;
                ensure!(made.status.success(), "htpasswd failed: {made:?}");
                fs::write(&file, made.stdout)?;
                format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display())
            }
        };
        let tls = self.tls.map(|tls| self.certificate(tls)).transpose()?.unwrap_or_default();
        Ok(format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {}\n{tls}{auth}",
            self.data.display(),
            self.host()
        ))
    }

    /// A certificate that nobody signed, and its key, as the configuration names them.
    fn certificate(&self, tls: Tls) -> Result<String> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (self.directory.path().join("certificate.pem"), self.directory.path().join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(format!(
            "  tls:\n    certificate: {}\n    key: {}\n  http2:\n    disabled: {}\n",
            certificate.display(),
            key.display(),
            tls == Tls::Http1
        ))
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// `127.0.0.1:PORT`, or its address at the far end of a link.
    #[must_use]
    pub fn host(&self) -> String {
        let address = if self.behind.is_some() { FAR } else { "127.0.0.1" };
        format!("{address}:{}", self.port.number())
    }

    /// Moves it, with what it has, to the far end of a link.
    pub fn move_behind(&mut self, link: Link) -> Result<()> {
        self.stop();
        self.behind = Some(link);
        self.run()
    }

    /// From now on it speaks HTTPS, as version 2 and 1.1, with a certificate that nobody signed.
    pub fn speak_tls(&mut self) -> Result<()> {
        self.stop();
        self.tls = Some(Tls::Http2);
        self.run()
    }

    /// Name and password, if it asks for them.
    #[must_use]
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(name, password)| (name.as_str(), password.as_str()))
    }

    /// What it has logged: one line for each request, among others.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// How many requests it has answered whose line holds `text` (`"GET /v2/a/blobs/"`).
    #[must_use]
    pub fn requests(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Ends it; connections are refused from now on.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same port, with what it had.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.run()
    }
}
