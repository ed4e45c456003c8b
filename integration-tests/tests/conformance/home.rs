//! The homes: a gateway on a socket, and the services behind it in the same process or over a nats-server.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use berth_bus::{Bus, NatsOptions, Serving};
use berth_gateway::{Access, ServerInfo, Sharing};
use berth_model::{Code, Digest, labels::Labels};
use berth_testing::nats_server::NatsServer;
use berth_wire::containerd as api;
use prost_types::Timestamp;
use tokio::task::JoinHandle;
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

pub(crate) const NS: &str = "testing";
const MESSAGE_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Local,
    Nats,
}

pub(crate) struct Home {
    pub(crate) channel: Channel,
    // Ended in this order.
    gateway: JoinHandle<()>,
    _serving: Vec<Serving>,
    _nats: Option<NatsServer>,
    root: tempfile::TempDir,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.gateway.abort();
    }
}

/// The headers of every request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    namespace: String,
    lease: String,
}

impl tonic::service::Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in [("containerd-namespace", &self.namespace), ("containerd-lease", &self.lease)] {
            if !value.is_empty() {
                request.metadata_mut().insert(name, value.parse().unwrap());
            }
        }
        Ok(request)
    }
}

pub(crate) type Wire = InterceptedService<Channel, Headers>;

macro_rules! clients {
    ($($name:ident: $area:ident $module:ident $Client:ident;)*) => {
        $(pub(crate) fn $name(&self, namespace: &str) -> api::$area::$module::$Client<Wire> {
            api::$area::$module::$Client::new(self.wire(namespace, ""))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(64 << 20)
        })*
    };
}

impl Home {
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::with(kind, Sharing::Shared).await
    }

    pub(crate) async fn with(kind: Kind, sharing: Sharing) -> Self {
        let root = tempfile::tempdir().unwrap();
        let nats = (kind == Kind::Nats).then(|| NatsServer::start().unwrap());
        let bus = match &nats {
            None => Bus::in_process(),
            Some(nats) => connect(nats, "services").await,
        };
        let mut serving = Vec::new();
        let metadata = berth_metadata::Config::new(root.path().join("metadata"));
        serving.extend(berth_metadata::start(&bus, metadata).await.unwrap());
        let content = berth_content::Config::new(root.path().join("content"), "conformance");
        serving.extend(berth_content::start(&bus, content).await.unwrap());
        // The collector asks whose data the directories of snapshots hold.
        let unpacker = berth_unpacker::Config::new(root.path().join("snapshots"));
        serving.extend(berth_unpacker::start(&bus, unpacker).await.unwrap());
        let never = berth_gc::Config { schedule: None, ..berth_gc::Config::default() };
        serving.extend(berth_gc::start(&bus, never).await.unwrap());
        let bus = match &nats {
            None => bus,
            Some(nats) => connect(nats, "gateway").await,
        };
        let info = ServerInfo {
            version: "1.2.3".into(),
            revision: "abc".into(),
            root: root.path().display().to_string(),
            sharing,
        };
        let socket = root.path().join("berth.sock");
        let listener = berth_gateway::listen(&socket, &Access::default()).await.unwrap();
        let routes = berth_gateway::routes(&bus, info).described().unwrap();
        let gateway = tokio::spawn(async move {
            berth_gateway::serve(listener, routes, std::future::pending()).await.unwrap();
        });
        let channel = connection(&socket).await.unwrap();
        Self { channel, gateway, _serving: serving, _nats: nats, root }
    }

    /// A connection with these headers; an empty one is not sent.
    pub(crate) fn wire(&self, namespace: &str, lease: &str) -> Wire {
        wire(&self.channel, namespace, lease)
    }

    clients! {
        content: content content_client ContentClient;
        images: images images_client ImagesClient;
        leases: leases leases_client LeasesClient;
        events: events events_client EventsClient;
        containers: containers containers_client ContainersClient;
        mounts: mounts mounts_client MountsClient;
    }

    pub(crate) fn namespaces(&self) -> api::namespaces::namespaces_client::NamespacesClient<Channel> {
        api::namespaces::namespaces_client::NamespacesClient::new(self.channel.clone())
    }

    /// The file of a blob.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        self.root.path().join("content/blobs").join(digest.replace(':', "/"))
    }

    /// The files of blobs there are.
    pub(crate) fn blob_files(&self) -> usize {
        let dir = self.root.path().join("content/blobs/sha256");
        std::fs::read_dir(dir).map_or(0, |entries| entries.count())
    }

    /// The directories of ingests there are.
    pub(crate) fn ingest_dirs(&self) -> usize {
        std::fs::read_dir(self.root.path().join("content/ingest")).map_or(0, |entries| entries.count())
    }
}

/// A connection to a socket.
pub(crate) async fn connection(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("unix:{}", socket.display()))?.connect().await
}

/// A client's side of a connection, with these headers; an empty one is not sent.
pub(crate) fn wire(channel: &Channel, namespace: &str, lease: &str) -> Wire {
    let headers = Headers { namespace: namespace.to_owned(), lease: lease.to_owned() };
    InterceptedService::new(channel.clone(), headers)
}

async fn connect(nats: &NatsServer, name: &str) -> Bus {
    Bus::connect(NatsOptions::new(nats.url(), name)).await.unwrap()
}

/// The code of a refusal.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, word: &str) {
    let status = result.unwrap_err();
    assert_eq!(Code::from_number(status.code() as i32), code, "{status}");
    assert!(status.message().contains(word), "{word:?} is not in {:?}", status.message());
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

pub(crate) fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

pub(crate) fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Between these two moments.
#[track_caller]
pub(crate) fn between(found: Option<&Timestamp>, from: SystemTime, to: SystemTime) {
    let found = found.expect("a moment");
    let since = Duration::new(u64::try_from(found.seconds).unwrap(), u32::try_from(found.nanos).unwrap());
    let found = SystemTime::UNIX_EPOCH + since;
    assert!(from <= found && found <= to, "{from:?} {found:?} {to:?}");
}
