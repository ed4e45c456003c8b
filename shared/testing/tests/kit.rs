//! The test kit does what it says: servers start, restart and end; disks are full; pushes arrive.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

use std::{fs, io::Write as _, net::TcpStream, process::Command, time::Duration};

use anyhow::Result;
use berth_testing::{
    docker_registry::DockerRegistry, nats_server::NatsServer, push::Pusher, running::Running, tiny_disk::TinyDisk,
};
use bytes::Bytes;

#[tokio::test]
async fn a_pushed_blob_outlives_a_restart_of_the_registry() -> Result<()> {
    let mut registry = DockerRegistry::start_with_login("anna", "secret")?;
    let digest = berth_model::Digest::of(b"bytes").to_string();
    let refused = Pusher::new(&registry.host(), "a/b", None)?;
    assert!(refused.blob(&digest, Bytes::from_static(b"bytes")).await.is_err());
    let pusher = Pusher::new(&registry.host(), "a/b", registry.login())?;
    pusher.blob(&digest, Bytes::from_static(b"bytes")).await?;
    let uploads = registry.requests("\"PUT /v2/a/b/blobs/uploads/");
    assert_eq!(uploads, 1, "{}", registry.log());
    registry.restart()?;
    pusher.blob(&digest, Bytes::from_static(b"bytes")).await?;
    assert_eq!(registry.requests("\"PUT /v2/a/b/blobs/uploads/"), 1, "it was there: {}", registry.log());
    registry.stop();
    assert!(pusher.blob(&digest, Bytes::new()).await.is_err());
    Ok(())
}

#[test]
fn what_is_published_is_heard() -> Result<()> {
    let mut nats = NatsServer::not_yet()?;
    assert!(TcpStream::connect(nats.address()).is_err());
    nats.restart()?;
    let listener = nats.listen("events.>")?;
    let mut publisher = TcpStream::connect(nats.address())?;
    publisher.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nPUB events.a 5\r\nhello\r\n")?;
    publisher.write_all(b"HPUB events.b 22 24\r\nNATS/1.0\r\nkey: val\r\n\r\nhi\r\n")?;
    let heard = listener.next(Duration::from_secs(5))?;
    assert_eq!((heard.subject.as_str(), heard.body.as_slice()), ("events.a", b"hello".as_slice()));
    let heard = listener.next(Duration::from_secs(5))?;
    assert_eq!((heard.subject.as_str(), heard.body.as_slice()), ("events.b", b"hi".as_slice()));
    assert!(heard.headers.contains("key: val"), "{heard:?}");
    Ok(())
}

#[test]
fn a_tiny_disk_is_full_soon() -> Result<()> {
    let disk = TinyDisk::new(1 << 20)?;
    let file = disk.path().join("file");
    let error = fs::write(&file, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    disk.resize(8 << 20)?;
    fs::write(&file, vec![0; 2 << 20])?;
    disk.make_read_only()?;
    assert!(fs::write(&file, b"x").is_err());
    let path = disk.path().to_owned();
    drop(disk);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn output_is_seen_while_a_command_runs() -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; echo two >&2; read line; echo $line"]);
    let running = Running::start(command)?;
    assert_eq!(running.wait_for_line("one"), "one");
    let finished = running.finish()?;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, "two\n"));
    Ok(())
}
