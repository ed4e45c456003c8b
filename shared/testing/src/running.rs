//! A command that runs, its output collected meanwhile.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{Seen, wait_for};

/// No command of a test takes longer, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(240);

/// A finished command.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// A running command. Killed when dropped.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Result<Self> {
        let shown = format!("{command:?}");
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("start {shown}"))?;
        Ok(Self {
            stdout: Collected::of(child.stdout.take()),
            stderr: Collected::of(child.stderr.take()),
            child,
            shown,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far, standard error last.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout.text(), self.stderr.text())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to {}", self.shown))
    }

    /// The first line of its standard output that holds `part`, waited for.
    ///
    /// # Panics
    ///
    /// If none comes within a minute.
    #[must_use]
    pub fn wait_for_line(&self, part: &str) -> String {
        let what = format!("a line with {part} from {}", self.shown);
        wait_for(&what, Duration::from_secs(60), || {
            let text = self.stdout.text();
            let whole = text.rsplit_once('\n').map_or("", |(lines, _unfinished)| lines);
            match whole.lines().find(|line| line.contains(part)) {
                Some(line) => Seen::Yes(line.to_owned()),
                None => Seen::NotYet(self.output()),
            }
        })
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If that takes more than four minutes.
    pub fn finish(mut self) -> Result<Finished> {
        let Self { child, shown, stdout, stderr } = &mut self;
        let status = wait_for(shown, LIMIT, || match child.try_wait() {
            Ok(Some(status)) => Seen::Yes(status),
            _ => Seen::NotYet(format!("{}{}", stdout.text(), stderr.text())),
        });
        Ok(Finished { code: status.code().unwrap_or(-1), stdout: stdout.end(), stderr: stderr.end() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A stream read on a thread of its own, so that the writer never waits.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = stream.map(|mut stream| {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut piece = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                    bytes.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
            })
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// All of it; the writer has ended.
    fn end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _it_panicked = reader.join();
        }
        self.text()
    }
}
