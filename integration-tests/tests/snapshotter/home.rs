//! The homes of the contract, with real metadata and content behind, and what the tests ask of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use berth_api::{
    content::{Content, ContentClient},
    metadata::{Metadata, MetadataClient},
    unpacker::{Unpacker, UnpackerClient},
};
use berth_bus::{Bus, NatsOptions, Serving};
use berth_model::{Code, Status, labels::Labels};
use berth_testing::{
    nats_server::NatsServer,
    tree::{Tree, read_tree},
};
use berth_wire::{metadata::Snapshot, types::Mount, unpacker as msg};

use crate::over_grpc::OverGrpc;

pub(crate) const NS: &str = "suite";

/// How the contract is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    InProcess,
    OverNats,
    OverGrpc,
}

/// Services on a root of their own, and a way to call them.
pub(crate) struct Home {
    pub(crate) unpacker: Arc<dyn Unpacker>,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) snapshotter: &'static str,
    pub(crate) root: tempfile::TempDir,
    _serving: Vec<Serving>,
    _nats: Option<NatsServer>,
}

impl Home {
    /// None without root.
    pub(crate) async fn open(kind: Kind, snapshotter: &'static str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let nats = matches!(kind, Kind::OverNats).then(|| NatsServer::start().unwrap());
        let bus = match &nats {
            Some(nats) => Bus::connect(NatsOptions::new(nats.url(), "suite")).await.unwrap(),
            None => Bus::in_process(),
        };
        let dir = |name: &str| root.path().join(name);
        let mut metadata = berth_metadata::Config::new(dir("metadata"));
        metadata.durability = berth_kv::Durability::None;
        let mut content = berth_content::Config::new(dir("content"), "the suite");
        content.durability = berth_kv::Durability::None;
        let mut unpacker = berth_unpacker::Config::new(dir("snapshots"));
        unpacker.flush = false;
        unpacker.upperdir_label = true;
        let mut serving = berth_metadata::start(&bus, metadata).await.unwrap();
        serving.extend(berth_content::start(&bus, content).await.unwrap());
        serving.extend(berth_unpacker::start(&bus, unpacker).await.unwrap());
        let unpacker: Arc<dyn Unpacker> = match kind {
            Kind::InProcess | Kind::OverNats => Arc::new(UnpackerClient::new(bus.clone())),
            Kind::OverGrpc => Arc::new(OverGrpc::serve(&bus).await),
        };
        Some(Self {
            unpacker,
            metadata: Arc::new(MetadataClient::new(bus.clone())),
            content: Arc::new(ContentClient::new(bus)),
            snapshotter,
            root,
            _serving: serving,
            _nats: nats,
        })
    }

    pub(crate) async fn make(&self, key: &str, parent: &str, view: bool, labels: Labels) -> Result<Vec<Mount>, Status> {
        let request = msg::PrepareMountsRequest {
            namespace: NS.into(),
            snapshotter: self.snapshotter.into(),
            key: key.into(),
            parent: parent.into(),
            view,
            labels,
            ..Default::default()
        };
        Ok(self.unpacker.prepare_mounts(request).await?.mounts)
    }

    pub(crate) async fn prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        self.make(key, parent, false, Labels::new()).await
    }

    pub(crate) async fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        self.make(key, parent, true, Labels::new()).await
    }

    pub(crate) async fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let request =
            msg::GetMountsRequest { namespace: NS.into(), snapshotter: self.snapshotter.into(), key: key.into() };
        Ok(self.unpacker.get_mounts(request).await?.mounts)
    }

    pub(crate) fn commit_of(&self, name: &str, key: &str) -> msg::CommitActiveRequest {
        msg::CommitActiveRequest {
            namespace: NS.into(),
            snapshotter: self.snapshotter.into(),
            key: key.into(),
            name: name.into(),
            ..Default::default()
        }
    }

    pub(crate) async fn commit(&self, name: &str, key: &str) -> Result<(), Status> {
        self.unpacker.commit_active(self.commit_of(name, key)).await.map(|_| ())
    }

    pub(crate) async fn rebase(&self, name: &str, key: &str, parent: &str) -> Result<(), Status> {
        let request = msg::CommitActiveRequest { parent: parent.into(), ..self.commit_of(name, key) };
        self.unpacker.commit_active(request).await.map(|_| ())
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<(), Status> {
        let request =
            msg::RemoveTreeRequest { namespace: NS.into(), snapshotter: self.snapshotter.into(), key: key.into() };
        self.unpacker.remove_tree(request).await.map(|_| ())
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<Snapshot, Status> {
        let request =
            msg::StatTreeRequest { namespace: NS.into(), snapshotter: self.snapshotter.into(), key: key.into() };
        self.unpacker.stat_tree(request).await
    }

    pub(crate) async fn usage(&self, key: &str) -> Result<(u64, u64), Status> {
        let request =
            msg::GetUsageRequest { namespace: NS.into(), snapshotter: self.snapshotter.into(), key: key.into() };
        let usage = self.unpacker.get_usage(request).await?;
        Ok((usage.size, usage.inodes))
    }

    /// All names, in order.
    pub(crate) async fn names(&self) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let request =
                msg::ListTreesRequest { namespace: NS.into(), snapshotter: self.snapshotter.into(), after, limit: 3 };
            let page = self.unpacker.list_trees(request).await.unwrap();
            names.extend(page.snapshots.into_iter().map(|snapshot| snapshot.name));
            after = names.last().cloned().unwrap_or_default();
            if !page.more {
                return names;
            }
        }
    }

    /// A committed snapshot whose tree was changed by a shell script.
    pub(crate) async fn layer(&self, name: &str, parent: &str, script: &str) {
        let key = format!("making {name}");
        let mounts = self.prepare(&key, parent).await.unwrap();
        self.shell(&mounts, script);
        self.commit(name, &key).await.unwrap();
    }

    /// Runs a script in a tree, mounted where nobody else sees it. Answers whether it went well.
    pub(crate) fn try_shell(&self, mounts: &[Mount], script: &str) -> bool {
        self.mounted(mounts, |at| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-ec", script]).current_dir(at).status().unwrap().success()
        })
    }

    pub(crate) fn shell(&self, mounts: &[Mount], script: &str) {
        assert!(self.try_shell(mounts, script), "{script}");
    }

    /// The whole tree that mounts show, without fractions of seconds.
    pub(crate) fn tree(&self, mounts: &[Mount]) -> Tree {
        self.mounted(mounts, |at| read_tree(at).unwrap())
    }

    pub(crate) fn mounted<R: Send>(&self, mounts: &[Mount], look: impl FnOnce(&Path) -> R + Send) -> R {
        let at = tempfile::tempdir_in(self.root.path()).unwrap();
        let path = at.path().to_owned();
        berth_mount::in_private_namespace(|| {
            berth_mount::all(mounts, &path).unwrap();
            look(&path)
        })
        .unwrap()
    }

    /// What the tree of a snapshot shows, read through a view that goes again.
    pub(crate) async fn tree_of(&self, name: &str) -> Tree {
        let mounts = self.view("looking", name).await.unwrap();
        let tree = self.tree(&mounts);
        self.remove("looking").await.unwrap();
        tree
    }

    /// The directories that there are for snapshots.
    pub(crate) fn dirs(&self) -> Vec<String> {
        let path: PathBuf = self.root.path().join("snapshots").join(self.snapshotter).join("snapshots");
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The code of a refusal, and words that must be in it.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, words: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code, code, "{status}");
    assert!(status.message.contains(words), "{words:?} is not in {:?}", status.message);
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
