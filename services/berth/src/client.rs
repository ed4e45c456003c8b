//! How commands reach the services: a daemon's socket, the services on a NATS server, or services inside this process.
//! All three speak the same gRPC.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use berth_bus::Serving;
use berth_config::Settings;
use berth_gateway::Traced;
use berth_model::Status;
use berth_wire::gateway::{
    VersionRequest, content_client::ContentClient, events_client::EventsClient, gc_client::GcClient,
    images_client::ImagesClient, jobs_client::JobsClient, leases_client::LeasesClient, pulls_client::PullsClient,
    snapshots_client::SnapshotsClient, transfer_client::TransferClient, version_client::VersionClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use crate::{
    assemble::{self, Plan, Starting},
    cli::Global,
};

const MESSAGE_BYTES: usize = 16 << 20;
/// Bytes in flight between command and services inside one process.
const MEMORY_BYTES: usize = 1 << 20;
/// A daemon whose connection broke is asked again so often.
const LOST: u32 = 10;
/// A daemon that takes longer to answer its socket is not there.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a daemon is looked for that must be there, and is perhaps being replaced.
const LOOK: Duration = Duration::from_millis(200);
/// How long services of this process may take to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// Requests that say which trace they belong to.
pub(crate) type Wire = InterceptedService<Channel, Traced>;

/// A connection to the services; it keeps them if they run here.
pub(crate) struct Client {
    channel: Channel,
    pub(crate) namespace: String,
    /// Whether the services run in this process.
    pub(crate) is_local: bool,
    pub(crate) settings: Settings,
    serving: Vec<Serving>,
    /// The services of this process that are still starting.
    starting: Option<Starting>,
}

/// The settings, with what flags say on top.
pub(crate) fn settings(global: &Global) -> Result<Settings, Status> {
    let mut settings = Settings::read(global.config.as_deref())?;
    if let Some(root) = &global.root {
        settings.root.clone_from(root);
    }
    global.nats.apply(&mut settings);
    settings.root = std::path::absolute(&settings.root).map_err(|error| Status::io("find", &settings.root, &error))?;
    Ok(settings)
}

/// The daemon's socket.
pub(crate) fn address(global: &Global, settings: &Settings) -> PathBuf {
    match &global.address {
        Some(address) => address.clone(),
        None if settings.root == Settings::default().root => PathBuf::from("/run/berth/berth.sock"),
        None => settings.root.join("berth.sock"),
    }
}

macro_rules! clients {
    ($($name:ident: $Client:ident;)*) => {
        $(
            pub(crate) fn $name(&self) -> $Client<Wire> {
                $Client::with_interceptor(self.channel.clone(), Traced)
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES)
            }
        )*
    };
}

impl Client {
    clients! {
        images: ImagesClient;
        content: ContentClient;
        snapshots: SnapshotsClient;
        transfer: TransferClient;
        pulls: PullsClient;
        leases: LeasesClient;
        gc: GcClient;
        jobs: JobsClient;
        events: EventsClient;
        version: VersionClient;
    }

    /// Connects to whatever there is. `command` names this process to whoever finds the store held. Services of this process
    /// may still be starting afterwards: for what is done meanwhile there is [`Client::while_starting`].
    pub(crate) async fn begin(global: &Global, command: &str) -> anyhow::Result<Self> {
        let settings = settings(global)?;
        let (namespace, address) = (global.namespace.clone(), address(global, &settings));
        if let Some(url) = &global.nats.nats {
            return Self::join(url, settings, namespace).await;
        }
        let patience = if global.daemon_only { settings.pulls.wait_for_daemon } else { Duration::ZERO };
        let until = Instant::now() + patience;
        loop {
            if let Some(channel) = daemon(address.clone()).await? {
                return Ok(Self { channel, namespace, is_local: false, settings, serving: Vec::new(), starting: None });
            }
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        if global.daemon_only {
            return Err(Status::unavailable(format!(
                "no daemon listens on {} (waited {patience:?}); start `berth serve`, or name another --address",
                address.display()
            ))
            .into());
        }
        // On a node whose settings name a bus, the services are there and not in this process.
        if let Some(url) = settings.nats.url.clone() {
            return Self::join(&url, settings, namespace).await;
        }
        let plan = Plan { settings: settings.clone(), holder: format!("berth {command}"), lasts: false };
        let (bus, serving, starting) = plan.start_soon().await?;
        let channel = in_memory(berth_gateway::routes(&bus, assemble::info(&settings)))?;
        Ok(Self { channel, namespace, is_local: true, settings, serving, starting: Some(starting) })
    }

    /// Connects, and waits until all services are there that this process starts.
    pub(crate) async fn connect(global: &Global, command: &str) -> anyhow::Result<Self> {
        let mut client = Self::begin(global, command).await?;
        if let Some(starting) = client.starting.take() {
            client.serving.extend(started(starting).await?);
        }
        Ok(client)
    }

    /// Does something while services are starting which it may wait for. If they do not come, that is the answer.
    pub(crate) async fn while_starting<T>(
        &mut self,
        doing: impl AsyncFnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Some(starting) = self.starting.take() else { return doing(self).await };
        let (done, serving) = {
            let mut doing = std::pin::pin!(doing(self));
            let serving = tokio::select! {
                biased;
                serving = started(starting) => serving?,
                done = &mut doing => return done,
            };
            (doing.await, serving)
        };
        self.serving.extend(serving);
        done
    }

    /// Lets the services of this process come to their end, for a while: whatever they still have to say is said before.
    pub(crate) async fn close(self) {
        let stops = futures::future::join_all(self.serving.into_iter().map(Serving::stop));
        if tokio::time::timeout(FAREWELL, stops).await.is_err() {
            tracing::debug!("the services of this process take long to stop; nobody waits for them");
        }
    }
}

async fn started(starting: Starting) -> anyhow::Result<Vec<Serving>> {
    match starting.await {
        Ok(serving) => Ok(serving?),
        Err(error) => Err(Status::internal(format!("the services could not be started: {error}")).into()),
    }
}

impl Client {
    /// A gateway in this process, for services on a bus.
    async fn join(url: &str, settings: Settings, namespace: String) -> anyhow::Result<Self> {
        let bus = assemble::connect(&settings, url, "berth command line", "gateway").await?;
        let channel = in_memory(berth_gateway::routes(&bus, assemble::info(&settings)))?;
        Ok(Self { channel, namespace, is_local: false, settings, serving: Vec::new(), starting: None })
    }
}

/// A channel to a daemon that answered; `None` if nobody listens. One that goes away while it is asked is looked for again.
pub(crate) async fn daemon(path: PathBuf) -> anyhow::Result<Option<Channel>> {
    let mut tries = 0;
    loop {
        match ask(&path).await {
            Err(Silence::Lost(_)) if tries < LOST => {
                tries += 1;
                tokio::time::sleep(LOOK).await;
            }
            Err(Silence::Lost(error) | Silence::Other(error)) => return Err(error),
            Ok(answer) => return Ok(answer),
        }
    }
}

/// Why a daemon that listens did not answer.
enum Silence {
    /// The connection broke: it may be gone, or just coming back.
    Lost(anyhow::Error),
    Other(anyhow::Error),
}

async fn ask(path: &Path) -> Result<Option<Channel>, Silence> {
    match UnixStream::connect(path).await {
        Ok(_answers) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Silence::Other(Status::permission_denied(format!(
                "a daemon may be listening on {}, but this user may not talk to it; run as root, or choose another --address or --root",
                path.display()
            ))
            .into()));
        }
        Err(_nobody) => return Ok(None),
    }
    let shown = path.display().to_string();
    let path = path.to_owned();
    let channel = endpoint().map_err(Silence::Other)?.connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }));
    let mut version = VersionClient::new(channel.clone());
    match tokio::time::timeout(ANSWER, version.get(VersionRequest {})).await {
        Ok(Ok(_version)) => Ok(Some(channel)),
        Ok(Err(status)) => {
            let lost =
                matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled);
            let error =
                anyhow::Error::from(berth_gateway::from_grpc(&status)).context(format!("the daemon on {shown}"));
            Err(if lost { Silence::Lost(error) } else { Silence::Other(error) })
        }
        Err(_elapsed) => Err(Silence::Other(
            Status::unavailable(format!(
                "the daemon on {shown} does not answer within {} s; look at it, or stop it",
                ANSWER.as_secs()
            ))
            .into(),
        )),
    }
}

fn endpoint() -> anyhow::Result<Endpoint> {
    // The name is never looked up; the connector decides.
    Ok(Endpoint::try_from("http://berth.invalid")?)
}

/// A channel to a gateway in this process.
fn in_memory(routes: berth_gateway::Routes) -> anyhow::Result<Channel> {
    let (ours, theirs) = tokio::io::duplex(MEMORY_BYTES);
    tokio::spawn(async move {
        if let Err(status) = berth_gateway::serve_in_memory(theirs, routes).await {
            tracing::error!(%status, "the gateway in this process ended");
        }
    });
    let once = Mutex::new(Some(ours));
    Ok(
        endpoint()?.connect_with_connector_lazy(tower::service_fn(move |_| {
            let connection = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            async move {
                connection.map(TokioIo::new).ok_or_else(|| io::Error::other("the services of this process are gone"))
            }
        })),
    )
}
