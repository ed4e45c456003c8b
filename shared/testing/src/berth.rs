//! The real `berth` program, run on a root directory of the test's own.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::running::{Finished, Running};

/// Where the program under test is: `BERTH_BIN`, or beside the test programs.
///
/// # Panics
///
/// If it is not there.
#[must_use]
pub fn binary() -> PathBuf {
    let beside = || {
        // Tests are built into a directory of their own, other programs are not.
        let own = env::current_exe().ok()?;
        own.ancestors().skip(1).take(2).map(|directory| directory.join("berth")).find(|path| path.exists())
    };
    let path = env::var_os("BERTH_BIN").map(PathBuf::from).or_else(beside).unwrap_or_default();
    assert!(
        path.exists(),
        "{} is not there; scripts/test builds it before the tests, `cargo build -p berth` does too",
        path.display()
    );
    path
}

/// A root directory and how to run `berth` on it. The directory goes when this is dropped.
pub struct Berth {
    scratch: tempfile::TempDir,
    root: PathBuf,
    settings: Vec<(String, String)>,
    /// The program, and its arguments, that runs all commands.
    within: Vec<String>,
}

impl Berth {
    /// On an empty root.
    pub fn new() -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("root");
        Ok(Self { scratch, root, settings: Vec::new(), within: Vec::new() })
    }

    /// On a root that is somewhere else (a full disk, a directory that may not be written).
    pub fn at(root: &Path) -> Result<Self> {
        let mut berth = Self::new()?;
        root.clone_into(&mut berth.root);
        Ok(berth)
    }

    /// Collects only when asked to: for scenarios with content that nothing keeps.
    pub fn collecting_only_on_demand(mut self) -> Result<Self> {
        self.configure("[gc]\nschedule = false\n")?;
        Ok(self)
    }

    /// Gives all commands and services from now on this configuration file.
    pub fn configure(&mut self, text: &str) -> Result<()> {
        let config = self.scratch().join("config.toml");
        std::fs::write(&config, text)?;
        self.set("BERTH_CONFIG", &config.display().to_string());
        Ok(())
    }

    /// Sets an environment variable for all commands from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Has another program run all commands and services from now on: `taskset -c 0`, `nsenter --net=FILE`.
    pub fn run_within(&mut self, words: &[&str]) {
        self.within = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Leaves everything there when this is dropped.
    pub fn keep(&mut self) {
        self.scratch.disable_cleanup(true);
    }

    /// A directory that is neither store nor anything else.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The unix socket a daemon of this root listens on.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("berth.sock")
    }

    /// A `berth` command with the options of this root.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = match self.within.split_first() {
            None => Command::new(binary()),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary());
                command
            }
        };
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--address")
            .arg(self.socket())
            .args(args)
            .env("HOME", self.scratch.path())
            .env_remove("BERTH_ROOT")
            .stdin(Stdio::null());
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Finished> {
        Running::start(self.command(args))?.finish()
    }

    /// Runs a command that must succeed; its standard output.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let command = self.command(args);
        let shown = format!("{command:?}");
        let finished = Running::start(command)?.finish()?;
        assert!(finished.code == 0, "{shown}\nexit code {}\n{}\n{}", finished.code, finished.stdout, finished.stderr);
        Ok(finished.stdout)
    }

    /// Runs a command that must fail; its standard error.
    ///
    /// # Panics
    ///
    /// If it succeeds, is ended by a signal, or panics.
    pub fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let command = self.command(args);
        let shown = format!("{command:?}");
        let finished = Running::start(command)?.finish()?;
        assert!(
            finished.code > 0 && finished.code != 101,
            "{shown}\nshould fail with a message; exit code {}\n{}\n{}",
            finished.code,
            finished.stdout,
            finished.stderr
        );
        Ok(finished.stderr)
    }

    /// Runs a command that must succeed and print JSON.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<serde_json::Value> {
        let text = self.ok(args)?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    /// Starts a command and does not wait for it.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Running> {
        Running::start(self.command(args))
    }
}
