//! An unpacker on a bus in this process, with doubles of the services it works with: blobs are files in a directory,
//! snapshot records a map. The tests see the contract only: jobs, calls, mounts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use berth_api::unpacker::{Unpacker, UnpackerClient};
use berth_bus::{Bus, JobHandle, Serving};
use berth_model::{Digest, Status, chain_ids};
use berth_testing::tree::{Tree, read_tree};
use berth_wire::{
    content::{WatchBlobReply, WatchBlobRequest, watch_blob_reply::State},
    metadata as records,
    types::{self, Mount},
    unpacker as msg,
};
use records::{Snapshot, snapshot::Kind};
use rustix::mount::{MountFlags, UnmountFlags};

pub(crate) const NS: &str = "default";
const SNAPSHOTTER: &str = "overlayfs";
const STORE: &str = "a store of this test";

/// The unpacker, its doubles, and their directories.
pub(crate) struct Home {
    bus: Bus,
    unpacker: UnpackerClient,
    records: Arc<Mutex<Records>>,
    trouble: Arc<AtomicUsize>,
    dir: tempfile::TempDir,
    _serving: Vec<Serving>,
}

/// A layer in the content store.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    descriptor: types::Descriptor,
    pub(crate) diff_id: Digest,
}

#[derive(Clone, Debug, Default)]
struct Records {
    by_key: BTreeMap<String, Snapshot>,
    last_id: u64,
}

impl Records {
    fn find(&self, key: &str) -> Result<&Snapshot, Status> {
        self.by_key.get(key).ok_or_else(|| Status::not_found(format!("snapshot {key:?} not found")))
    }

    /// Ids of a chain, newest first.
    fn chain(&self, key: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut next = key.to_owned();
        while let Some(snapshot) = self.by_key.get(&next) {
            ids.push(snapshot.id);
            next.clone_from(&snapshot.parent);
        }
        ids
    }

    fn prepare(&mut self, request: records::PrepareSnapshotRequest) -> Result<records::PrepareSnapshotReply, Status> {
        if self.by_key.contains_key(&request.unless) {
            return Err(Status::already_exists(format!("snapshot {:?} already exists", request.unless)));
        }
        let replaced = self.by_key.get(&request.key);
        if replaced.is_some() && !request.replace {
            return Err(Status::already_exists(format!("snapshot {:?} already exists", request.key)));
        }
        let replaced_id = replaced.map_or(0, |snapshot| snapshot.id);
        self.last_id += 1;
        let snapshot = Snapshot {
            name: request.key.clone(),
            parent: request.parent.clone(),
            kind: request.kind,
            id: self.last_id,
            ..Snapshot::default()
        };
        self.by_key.insert(request.key, snapshot.clone());
        Ok(records::PrepareSnapshotReply {
            snapshot: Some(snapshot),
            parent_ids: self.chain(&request.parent),
            replaced_id,
        })
    }

    fn commit(&mut self, request: records::CommitSnapshotRequest) -> Result<Snapshot, Status> {
        if self.by_key.contains_key(&request.name) {
            return Err(Status::already_exists(format!("snapshot {:?} already exists", request.name)));
        }
        let active = self.find(&request.key)?.clone();
        if request.id != 0 && request.id != active.id {
            return Err(Status::aborted(format!("its id is {}, not {}", active.id, request.id)));
        }
        self.by_key.remove(&request.key);
        let parent = if request.parent.is_empty() { active.parent.clone() } else { request.parent };
        let (name, usage, kind) = (request.name, request.usage, Kind::Committed.into());
        let committed = Snapshot { name: name.clone(), parent, usage, kind, ..active };
        self.by_key.insert(name, committed.clone());
        Ok(committed)
    }

    /// All or none.
    fn commit_all(
        &mut self,
        request: records::CommitSnapshotsRequest,
    ) -> Result<records::CommitSnapshotsReply, Status> {
        let mut after = self.clone();
        let snapshots = request.commits.into_iter().map(|one| after.commit(one)).collect::<Result<_, _>>()?;
        *self = after;
        Ok(records::CommitSnapshotsReply { snapshots })
    }
}

/// Serves a call by a function over the records.
macro_rules! doubles {
    ($bus:ident, $records:ident, $($request:ident => $work:expr),* $(,)?) => {
        vec![$({
            let records = Arc::clone(&$records);
            let work = $work;
            $bus.serve(move |request: records::$request| {
                let done = work(&mut *records.lock().unwrap(), request);
                async move { done }
            })
            .await
            .unwrap()
        }),*]
    };
}

impl Home {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs")).unwrap();
        fs::write(dir.path().join("blobs/store-id"), STORE).unwrap();
        let bus = Bus::in_process();
        let records: Arc<Mutex<Records>> = Arc::default();
        let mut serving = doubles! { bus, records,
            PrepareSnapshotRequest => |records: &mut Records, request| records.prepare(request),
            CommitSnapshotRequest => |records: &mut Records, request| records.commit(request),
            CommitSnapshotsRequest => |records: &mut Records, request| records.commit_all(request),
            StatSnapshotsRequest => |records: &mut Records, request: records::StatSnapshotsRequest| {
                let snapshots = request.keys.iter().filter_map(|key| records.by_key.get(key).cloned()).collect();
                Ok(records::StatSnapshotsReply { snapshots })
            },
            StatSnapshotRequest => |records: &mut Records, request: records::StatSnapshotRequest| {
                let snapshot = records.find(&request.key)?.clone();
                let parent_ids = records.chain(&snapshot.parent);
                Ok(records::StatSnapshotReply { snapshot: Some(snapshot), parent_ids })
            },
            RemoveSnapshotRequest => |records: &mut Records, request: records::RemoveSnapshotRequest| {
                if request.id != 0 && records.find(&request.key)?.id != request.id {
                    return Err(Status::aborted("it was prepared anew"));
                }
                records.find(&request.key)?;
                Ok(records.by_key.remove(&request.key).unwrap())
            },
            AddLeaseResourcesRequest => |_: &mut Records, _: records::AddLeaseResourcesRequest| {
                Ok(records::AddLeaseResourcesReply {})
            },
        };
        let blobs = dir.path().join("blobs");
        let trouble: Arc<AtomicUsize> = Arc::default();
        let left = Arc::clone(&trouble);
        let watch = bus.serve(move |request: WatchBlobRequest| {
            let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            let path = blobs.join(request.digest.replace(':', "-"));
            let found = fs::metadata(&path).map(|facts| WatchBlobReply {
                state: State::Committed.into(),
                frontier: facts.len(),
                total: facts.len(),
                path: path.display().to_string(),
                store_id: STORE.into(),
                ..WatchBlobReply::default()
            });
            async move { if fails { Err(Status::aborted("later")) } else { Ok(found.unwrap_or_default()) } }
        });
        serving.push(watch.await.unwrap());
        let config = berth_unpacker::Config {
            jobs: 4,
            flush: false,
            ..berth_unpacker::Config::new(dir.path().join("snapshots"))
        };
        serving.extend(berth_unpacker::start(&bus, config).await.unwrap());
        Self { unpacker: UnpackerClient::new(bus.clone()), bus, records, trouble, dir, _serving: serving }
    }

    /// Puts a blob into the store: a layer whose archive is compressed like this.
    pub(crate) fn put(&self, archive: &[u8], compressed: &[u8]) -> Layer {
        let digest = Digest::of(compressed);
        let path = self.dir.path().join("blobs").join(digest.to_string().replace(':', "-"));
        fs::write(path, compressed).unwrap();
        let descriptor = types::Descriptor {
            // It lies, if it does: bytes decide.
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            digest: digest.to_string(),
            size: compressed.len() as u64,
            ..types::Descriptor::default()
        };
        Layer { descriptor, diff_id: Digest::of(archive) }
    }

    /// Unpacks a layer under a name.
    async fn submit(&self, layer: &Layer, chain_id: &Digest) -> Result<JobHandle<msg::UnpackJob>, Status> {
        self.bus.submit(job(layer, chain_id)).await
    }

    /// Prepares a snapshot for a layer.
    pub(crate) fn prepare(&self, layer: &Layer) -> u64 {
        let request = job(layer, &layer.diff_id).snapshot();
        self.records.lock().unwrap().prepare(request).unwrap().snapshot.unwrap().id
    }

    /// Unpacks a lowest layer into the snapshot that was prepared for it; answers which one it is in.
    pub(crate) async fn unpack_into(&self, layer: &Layer, snapshot_id: u64) -> Result<u64, Status> {
        let job = msg::UnpackJob { snapshot_id, ..job(layer, &layer.diff_id) };
        Ok(self.bus.submit(job).await?.outcome().await?.id)
    }

    /// Somebody is at a layer, as long as the file is open.
    pub(crate) fn busy(&self, layer: &Layer) -> fs::File {
        let locks = self.dir.path().join("snapshots/overlayfs/locks");
        fs::create_dir_all(&locks).unwrap();
        let file = fs::File::create(locks.join(format!("{NS}-{}", layer.diff_id))).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        file
    }

    /// Hands a layer's unpacking in, to be cancelled when the handle is dropped.
    pub(crate) async fn hand_in(&self, layer: &Layer, snapshot_id: u64) -> JobHandle<msg::UnpackJob> {
        self.bus.submit(msg::UnpackJob { snapshot_id, ..job(layer, &layer.diff_id) }).await.unwrap()
    }

    /// Somebody else prepares the snapshot of a layer anew, and fills nothing.
    pub(crate) fn prepare_again(&self, layer: &Layer) {
        let request = job(layer, &layer.diff_id).snapshot();
        let request = records::PrepareSnapshotRequest { replace: true, unless: String::new(), ..request };
        self.records.lock().unwrap().prepare(request).unwrap();
    }

    /// The directory of a snapshot.
    pub(crate) fn dir(&self, id: u64) -> PathBuf {
        self.dir.path().join("snapshots/overlayfs/snapshots").join(id.to_string())
    }

    /// The next so many questions for a blob fail with what may pass.
    pub(crate) fn trouble(&self, times: usize) {
        self.trouble.store(times, Ordering::Relaxed);
    }

    /// Unpacks layers at once and commits them on one another; the name of the last.
    pub(crate) async fn stack(&self, layers: &[Layer]) -> Result<String, Status> {
        self.stack_by(layers, usize::MAX).await
    }

    /// The same, not more than so many with one commit.
    pub(crate) async fn stack_by(&self, layers: &[Layer], most: usize) -> Result<String, Status> {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let chain = chain_ids(&diff_ids);
        let mut jobs = Vec::new();
        for (layer, chain_id) in layers.iter().zip(&chain) {
            jobs.push(self.submit(layer, chain_id).await?);
        }
        let mut parent = String::new();
        let mut commits = Vec::new();
        for (job, chain_id) in jobs.into_iter().zip(&chain) {
            let outcome = job.outcome().await?;
            let chain_id = chain_id.to_string();
            commits.push(msg::LayerCommit { key: outcome.key, id: outcome.id, chain_id: chain_id.clone(), parent });
            parent = chain_id;
        }
        for group in commits.chunks(most) {
            let (namespace, snapshotter) = (NS.into(), SNAPSHOTTER.into());
            let request = msg::CommitLayersRequest { namespace, snapshotter, layers: group.to_vec() };
            self.unpacker.commit_layers(request).await?;
        }
        Ok(parent)
    }

    /// Removes a snapshot.
    pub(crate) async fn remove(&self, name: &str) {
        let (namespace, snapshotter) = (NS.into(), SNAPSHOTTER.into());
        let request = msg::RemoveTreeRequest { namespace, snapshotter, key: name.to_owned() };
        self.unpacker.remove_tree(request).await.unwrap();
    }

    /// What somebody sees who mounts a committed snapshot.
    pub(crate) async fn seen(&self, name: &str) -> Tree {
        let key = format!("view of {name}");
        let request = msg::PrepareMountsRequest {
            namespace: NS.into(),
            snapshotter: SNAPSHOTTER.into(),
            key: key.clone(),
            parent: name.to_owned(),
            view: true,
            ..msg::PrepareMountsRequest::default()
        };
        let mounts = self.unpacker.prepare_mounts(request).await.unwrap().mounts;
        let mounted = Mounted::new(&mounts, &self.dir.path().join("mounted"));
        let tree = read_tree(&mounted.0).unwrap();
        drop(mounted);
        let request = msg::RemoveTreeRequest { namespace: NS.into(), snapshotter: SNAPSHOTTER.into(), key };
        self.unpacker.remove_tree(request).await.unwrap();
        tree
    }

    /// What is left of snapshots when removals are over: names of records and of directories.
    pub(crate) async fn left(&self) -> (Vec<String>, Vec<String>) {
        let all = self.dir.path().join("snapshots/overlayfs/snapshots");
        let begun = Instant::now();
        loop {
            let names = fs::read_dir(&all).into_iter().flatten();
            let dirs: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            if !dirs.iter().any(|name| name.starts_with("rm-")) {
                return (self.records.lock().unwrap().by_key.keys().cloned().collect(), dirs);
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "still there: {dirs:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn job(layer: &Layer, chain_id: &Digest) -> msg::UnpackJob {
    msg::UnpackJob {
        namespace: NS.into(),
        snapshotter: SNAPSHOTTER.into(),
        layer: Some(layer.descriptor.clone()),
        diff_id: layer.diff_id.to_string(),
        chain_id: chain_id.to_string(),
        lease: "a lease".into(),
        place: None,
        snapshot_id: 0,
    }
}

struct Mounted(PathBuf);

impl Mounted {
    fn new(mounts: &[Mount], at: &Path) -> Self {
        let [mount] = mounts else { panic!("one mount and not {mounts:?}") };
        fs::create_dir_all(at).unwrap();
        if mount.r#type == "bind" {
            rustix::mount::mount_bind(&mount.source, at).unwrap();
        } else {
            let options = std::ffi::CString::new(mount.options.join(",")).unwrap();
            rustix::mount::mount("overlay", at, "overlay", MountFlags::RDONLY, options.as_c_str()).unwrap();
        }
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
