//! A thousand clients at once, slow ones, and ones that vanish, against the real daemon: everybody is served, and when they
//! have gone nothing of them is left: no descriptor, no ingest, no memory.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use berth_testing::{
    shape::{Shape, Stage},
    wait::{Seen, wait_for},
};
use berth_wire::containerd::{content as api, images, types::Descriptor};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    home::{NS, connection, digest, labels, wire},
    writer::{Writer, commit, stat, write},
};

const CLIENTS: usize = 1000;
const SLOW: usize = 50;
const VANISHING: usize = 100;

/// What the daemon has.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    resident_kib: u64,
    ingests: usize,
}

fn held(stage: &Stage, pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Held {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        ingests: fs::read_dir(stage.root().join("content/ingest")).unwrap().count(),
    }
}

/// Waits until the daemon has no more than it had.
fn until_as_before(stage: &Stage, pid: u32, before: &Held) -> Held {
    wait_for("the daemon to let go", Duration::from_secs(60), || {
        let now = held(stage, pid);
        let let_go = now.descriptors <= before.descriptors + 4 && now.ingests <= before.ingests;
        if let_go { Seen::Yes(now) } else { Seen::NotYet(now) }
    })
}

async fn put(channel: &Channel, reference: &str, bytes: &[u8]) -> Result<String, tonic::Status> {
    let mut writer = Writer::on(wire(channel, NS, "")).await?;
    writer.say(stat(reference, "", 0)).await?;
    let mut offset = 0;
    for piece in bytes.chunks(8 << 20) {
        writer.say(write(offset, piece)).await?;
        offset += piece.len();
    }
    let mut last = commit(bytes.len(), bytes.len(), &digest(bytes));
    // The daemon collects meanwhile what nobody keeps.
    last.labels = labels(&[("containerd.io/gc.root", "yes")]);
    Ok(writer.say(last).await?.digest)
}

async fn get(channel: &Channel, digest: &str) -> Result<Vec<u8>, tonic::Status> {
    let mut client = api::content_client::ContentClient::new(wire(channel, NS, ""));
    let request = api::ReadContentRequest { digest: digest.into(), ..Default::default() };
    let mut stream = client.read(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        bytes.extend(message.data);
    }
    Ok(bytes)
}

/// Writes, records, reads and lists, on a connection of its own.
async fn client(socket: PathBuf, n: usize) -> Result<()> {
    let channel = connection(&socket).await?;
    let bytes: Vec<u8> = (0..32 << 10).map(|at| (at * 7 + n) as u8).chain(n.to_le_bytes()).collect();
    let digest = put(&channel, &format!("client-{n}"), &bytes).await.with_context(|| format!("client {n} writes"))?;
    let target = Descriptor {
        media_type: "m".into(),
        digest: digest.clone(),
        size: i64::try_from(bytes.len())?,
        ..Default::default()
    };
    let image = images::Image { name: format!("image-{n:04}"), target: Some(target), ..Default::default() };
    let mut client = images::images_client::ImagesClient::new(wire(&channel, NS, ""));
    client.create(images::CreateImageRequest { image: Some(image), source_date_epoch: None }).await?;
    assert!(get(&channel, &digest).await? == bytes);
    let request = images::ListImagesRequest { filters: vec![format!("target.digest=={digest}")] };
    assert_eq!(client.list(request).await?.into_inner().images.len(), 1);
    Ok(())
}

async fn serve_all(socket: &Path, all: Range<usize>) -> Result<Duration> {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for n in all {
        clients.spawn(client(socket.to_owned(), n));
    }
    for done in clients.join_all().await {
        done?;
    }
    Ok(begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_are_served_and_leave_nothing() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    let pid = stage.server("daemon").pid();
    let socket = stage.socket();
    client(socket.clone(), CLIENTS).await?;
    let big: Vec<u8> = (0..16 << 20_u32).map(|at| (at / 5) as u8).collect();
    let control = connection(&socket).await?;
    let blob = put(&control, "big", &big).await?;
    let before = held(&stage, pid);

    // These read one message, and then nothing, for as long as the others work.
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let channel = connection(&socket).await?;
        let mut client = api::content_client::ContentClient::new(wire(&channel, NS, ""));
        let request = api::ReadContentRequest { digest: blob.clone(), ..Default::default() };
        let mut stream = client.read(request).await?.into_inner();
        let first = stream.message().await?.unwrap();
        slow.push((channel, stream, first.data));
    }
    let took = serve_all(&socket, 0..CLIENTS).await?;
    let busy = held(&stage, pid);
    // The slow ones get the rest all the same.
    for (_channel, mut stream, mut bytes) in slow {
        while let Some(message) = stream.message().await? {
            bytes.extend(message.data);
        }
        assert!(bytes == big);
    }
    let after = until_as_before(&stage, pid, &before);
    eprintln!(
        "{CLIENTS} clients, {SLOW} slow readers beside them: {took:?}; resident KiB {} before, {} busy, {} after",
        before.resident_kib, busy.resident_kib, after.resident_kib
    );
    // An allocator keeps what it once had; who leaks takes as much again.
    serve_all(&socket, CLIENTS + 1..2 * CLIENTS + 1).await?;
    let again = until_as_before(&stage, pid, &before);
    eprintln!("resident KiB {} after as many once more", again.resident_kib);
    assert!(again.resident_kib < after.resident_kib + after.resident_kib / 3, "{after:?} {again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_vanish_leave_only_their_bytes() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    let pid = stage.server("daemon").pid();
    let socket = stage.socket();
    let control = connection(&socket).await?;
    let before = held(&stage, pid);
    let mut vanishing = JoinSet::new();
    for n in 0..VANISHING {
        let socket = socket.clone();
        vanishing.spawn(async move {
            let channel = connection(&socket).await.unwrap();
            let mut writer = Writer::on(wire(&channel, NS, "")).await.unwrap();
            writer.say(stat(&format!("r{n}"), "", 0)).await.unwrap();
            writer.say(write(0, &vec![7; 100_000])).await.unwrap();
            // Half of them while a message is on its way.
            if n % 2 == 0 {
                let _unanswered =
                    tokio::time::timeout(Duration::from_millis(1), writer.say(write(100_000, &vec![8; 4 << 20]))).await;
            }
        });
    }
    vanishing.join_all().await;
    let between = Held { ingests: before.ingests + VANISHING, ..held(&stage, pid) };
    let between = Held { descriptors: before.descriptors, ..between };
    until_as_before(&stage, pid, &between);

    // Each of them may come back, twice at once even: then one of the two waits in vain.
    let mut again = JoinSet::new();
    for n in 0..VANISHING * 2 {
        let socket = socket.clone();
        again.spawn(async move {
            let channel = connection(&socket).await.unwrap();
            let mut writer = Writer::on(wire(&channel, NS, "")).await.unwrap();
            let begun = writer.say(stat(&format!("r{}", n / 2), "", 0)).await;
            (n / 2, begun.map(|at| (at.offset, writer)))
        });
    }
    let mut writers: Vec<Vec<Writer>> = (0..VANISHING).map(|_| Vec::new()).collect();
    for (n, opened) in again.join_all().await {
        match opened {
            Ok((offset, writer)) => {
                assert!([100_000, 100_000 + (4 << 20)].contains(&offset), "whole messages or nothing: {offset}");
                writers[n].push(writer);
            }
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
        }
    }
    assert!(writers.iter().all(|both| both.len() == 1), "{:?}", writers.iter().map(Vec::len).collect::<Vec<_>>());
    drop(writers);
    let mut client = api::content_client::ContentClient::new(wire(&control, NS, ""));
    for n in 0..VANISHING {
        client.abort(api::AbortRequest { r#ref: format!("r{n}") }).await?;
    }
    let after = until_as_before(&stage, pid, &before);
    eprintln!("{VANISHING} writers vanished: {before:?} {after:?}");
    Ok(())
}
