//! Clients that leave, or whose time is up, while a layer is applied or a diff is made for them: the work ends with them,
//! through the gateway and the bus down to the thread that does it, in one process and in many.

use std::{fs, io::Write as _, path::Path, time::Duration};

use berth_testing::{
    shape::{Shape, Stage},
    wait::{Seen, wait_for},
};
use berth_wire::containerd::{
    content as content_api, diff as api, diff::diff_client::DiffClient, snapshots,
    snapshots::snapshots_client::SnapshotsClient, types,
};
use flate2::{Compression, write::GzEncoder};
use tonic::{Request, transport::Channel};

use crate::{
    home::{NS, Wire, connection, digest, labels, wire},
    writer::{Writer, commit, stat, write},
};

const FILES: usize = 16;
const FILE_BYTES: usize = 256 << 20;
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Sixteen files of zeros: little to send, and seconds to unpack.
fn long_layer() -> Vec<u8> {
    let member = |bytes: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let zeros = member(&vec![0; FILE_BYTES]);
    let mut layer = Vec::new();
    for n in 0..FILES {
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("file-{n:02}")).unwrap();
        header.set_size(FILE_BYTES as u64);
        header.set_mode(0o644);
        header.set_cksum();
        layer.extend(member(header.as_bytes()));
        layer.extend(&zeros);
    }
    layer.extend(member(&[0; 1024]));
    layer
}

/// What the daemon, or the unpackers, have open below the snapshots.
fn open_files(stage: &mut Stage) -> usize {
    let below = stage.root().join("snapshots");
    let names: &[&str] = if stage.shape() == Shape::Nats { &["unpacker-1", "unpacker-2"] } else { &["daemon"] };
    let pids: Vec<u32> = names.iter().map(|name| stage.server(name).pid()).collect();
    let open = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap());
    // One may be closed between the two looks.
    open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).filter(|to| to.starts_with(&below)).count()
}

struct Client {
    stage: Stage,
    channel: Channel,
    layer: types::Descriptor,
}

impl Client {
    async fn start(shape: Shape) -> Self {
        let stage = Stage::start(shape).unwrap();
        let channel = connection(&stage.socket()).await.unwrap();
        let bytes = long_layer();
        let mut writer = Writer::on(wire(&channel, NS, "")).await.unwrap();
        writer.say(stat("layer", "", 0)).await.unwrap();
        writer.say(write(0, &bytes)).await.unwrap();
        let mut last = commit(bytes.len(), bytes.len(), &digest(&bytes));
        last.labels = labels(&[("containerd.io/gc.root", "yes")]);
        writer.say(last).await.unwrap();
        let size = i64::try_from(bytes.len()).unwrap();
        let layer = types::Descriptor { media_type: GZIP.into(), digest: digest(&bytes), size, ..Default::default() };
        Self { stage, channel, layer }
    }

    fn wire(&self) -> Wire {
        wire(&self.channel, NS, "")
    }

    async fn prepare(&self, key: &str) -> Vec<types::Mount> {
        let request = snapshots::PrepareSnapshotRequest {
            snapshotter: "overlayfs".into(),
            key: key.into(),
            labels: labels(&[("containerd.io/gc.root", "yes")]),
            ..Default::default()
        };
        SnapshotsClient::new(self.wire()).prepare(request).await.unwrap().into_inner().mounts
    }

    fn apply(&self, mounts: Vec<types::Mount>) -> Request<api::ApplyRequest> {
        Request::new(api::ApplyRequest { diff: Some(self.layer.clone()), mounts, ..Default::default() })
    }

    fn until_quiet(&mut self, before: usize) {
        let stage = &mut self.stage;
        wait_for("the unpacker to stop", Duration::from_secs(120), || match open_files(stage) {
            open if open <= before => Seen::Yes(()),
            open => Seen::NotYet(open),
        });
    }

    fn until_busy(&mut self, tree: &Path) {
        let first = tree.join("file-00");
        wait_for("the layer to be worked on", Duration::from_secs(60), || match first.exists() {
            true => Seen::Yes(()),
            false => Seen::NotYet("nothing is there"),
        });
    }
}

fn tree(mounts: &[types::Mount]) -> &Path {
    Path::new(&mounts[0].source)
}

fn assert_not_finished(tree: &Path) {
    assert!(tree.join("file-00").exists(), "it was begun");
    assert!(!tree.join(format!("file-{:02}", FILES - 1)).exists(), "it went on to the end, for nobody");
}

async fn applying_ends_with_its_client(shape: Shape) {
    let mut client = Client::start(shape).await;
    let before = open_files(&mut client.stage);

    let mounts = client.prepare("leaves").await;
    let (mut applying, request) = (DiffClient::new(client.wire()), client.apply(mounts.clone()));
    let leaving = tokio::spawn(async move { applying.apply(request).await });
    client.until_busy(tree(&mounts));
    leaving.abort();
    client.until_quiet(before);
    assert_not_finished(tree(&mounts));

    let mounts = client.prepare("is late").await;
    let mut request = client.apply(mounts.clone());
    request.set_timeout(Duration::from_secs(1));
    let late = DiffClient::new(client.wire()).apply(request).await.unwrap_err();
    assert!(matches!(late.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{late}");
    client.until_quiet(before);
    assert_not_finished(tree(&mounts));
}

async fn a_diff_ends_with_its_client(shape: Shape) {
    let mut client = Client::start(shape).await;
    let mounts = client.prepare("changed").await;
    fs::File::create(tree(&mounts).join("zeros")).unwrap().set_len(64 << 30).unwrap();
    let before = open_files(&mut client.stage);
    let request = api::DiffRequest {
        right: mounts,
        media_type: GZIP.into(),
        r#ref: "half".into(),
        labels: labels(&[("containerd.io/gc.root", "yes")]),
        ..Default::default()
    };
    let mut diffing = DiffClient::new(client.wire());
    let leaving = tokio::spawn(async move { diffing.diff(request).await });
    let ingests = client.stage.root().join("content/ingest");
    let count = || fs::read_dir(&ingests).unwrap().count();
    wait_for("the diff to begin", Duration::from_secs(60), || match count() {
        0 => Seen::NotYet("no ingest"),
        _ => Seen::Yes(()),
    });
    leaving.abort();
    client.until_quiet(before);
    wait_for("the ingest to go", Duration::from_secs(60), || match count() {
        0 => Seen::Yes(()),
        left => Seen::NotYet(left),
    });
    let mut content = content_api::content_client::ContentClient::new(client.wire());
    let mut listed = content.list(content_api::ListContentRequest::default()).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(page) = listed.message().await.unwrap() {
        found.extend(page.info.into_iter().map(|info| info.digest));
    }
    assert_eq!(found, [client.layer.digest.clone()]);
}

macro_rules! in_every_shape {
    ($($name:ident)*) => {
        mod daemon {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(berth_testing::shape::Shape::Daemon).await;
            })*
        }
        mod over_nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(berth_testing::shape::Shape::Nats).await;
            })*
        }
    };
}

in_every_shape! {
    applying_ends_with_its_client
    a_diff_ends_with_its_client
}
