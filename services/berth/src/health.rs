//! How a service says that it is well: a unix socket of its own that `berth healthcheck` asks.
//!
//! A queue on the bus is shared by all replicas, so a call there would be answered by any of them; and it would need the
//! credentials of the bus. The socket belongs to one process: whoever asks it learns of that process, and that its
//! runtime still gets work done.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use berth_bus::Bus;
use berth_model::Status;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// An answer is a line of JSON; a longer one is not ours.
const LONGEST_ANSWER: u64 = 4096;
/// One who asks and does not read is left.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Health {
    /// Which one it is.
    pub(crate) service: String,
    /// Whether it does its work now.
    pub(crate) ok: bool,
    /// Why not; or that all is well.
    pub(crate) detail: String,
}

/// Answers until it is dropped; then the socket's name goes.
#[derive(Debug)]
pub(crate) struct Answering {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
        drop(std::fs::remove_file(&self.path));
    }
}

/// Begins to answer. `bus` is none as long as the service has not got one.
pub(crate) fn answer(
    path: &Path,
    service: &str,
    bus: tokio::sync::watch::Receiver<Option<Bus>>,
) -> Result<Answering, Status> {
    let failed = |error: &io::Error| Status::io("listen on the health socket", path, error);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    }
    // What a dead process left. Two that live are told apart by their paths, which whoever starts them chooses.
    drop(std::fs::remove_file(path));
    let listener = UnixListener::bind(path).map_err(|error| failed(&error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|error| failed(&error))?;
    let service = service.to_owned();
    let task = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // One after the other: nobody is kept for longer than the patience, and there is no crowd.
                Ok((stream, _)) => {
                    let said = say(&service, bus.borrow().as_ref());
                    if tokio::time::timeout(PATIENCE, write(stream, &said)).await.is_err() {
                        tracing::debug!("who asked for our health did not wait for the answer");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the health socket cannot be served; trying again");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    });
    Ok(Answering { path: path.to_owned(), task })
}

fn say(service: &str, bus: Option<&Bus>) -> Health {
    let (ok, detail) = match bus {
        None => (false, "it is starting, or waits for the NATS server".to_owned()),
        Some(bus) if bus.is_connected() => (true, "it serves".to_owned()),
        Some(_) => (false, "it has lost the NATS server and tries to reach it again".to_owned()),
    };
    Health { service: service.to_owned(), ok, detail }
}

async fn write(mut stream: UnixStream, health: &Health) -> io::Result<()> {
    let mut line = serde_json::to_vec(health)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// Asks the service behind a health socket.
pub(crate) async fn ask(path: &Path, limit: Duration) -> Result<Health, Status> {
    let asked = async {
        let stream = UnixStream::connect(path).await.map_err(|error| Status::io("ask", path, &error))?;
        let mut answer = Vec::new();
        let read = stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
        read.map_err(|error| Status::io("read the answer of", path, &error))?;
        serde_json::from_slice(&answer).map_err(|error| {
            Status::internal(format!("what answers on {} is no service of berth: {error}", path.display()))
        })
    };
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_elapsed| {
        Err(Status::deadline_exceeded(format!(
            "the service behind {} does not answer within {limit:?}",
            path.display()
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_service_says_how_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/health.sock");
        let missing = ask(&path, LIMIT).await.unwrap_err();
        assert!(missing.message.contains("health.sock"), "{missing}");

        let (bus, seen) = tokio::sync::watch::channel(None);
        let answering = answer(&path, "content", seen).unwrap();
        let early = ask(&path, LIMIT).await.unwrap();
        assert_eq!((early.service.as_str(), early.ok), ("content", false));
        bus.send_replace(Some(Bus::in_process()));
        assert!(ask(&path, LIMIT).await.unwrap().ok);

        // Who connects and says nothing keeps nobody else out.
        let _silent = UnixStream::connect(&path).await.unwrap();
        assert!(ask(&path, LIMIT).await.unwrap().ok);
        drop(answering);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn silence_and_nonsense_are_not_health() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let silence = ask(&path, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(silence.code, berth_model::Code::DeadlineExceeded, "{silence}");
        let nonsense = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                drop(stream.write_all(b"hello\n").await);
            }
        };
        let (_, answer) = tokio::join!(nonsense, ask(&path, LIMIT));
        assert!(answer.unwrap_err().message.contains("no service of berth"));
    }
}
