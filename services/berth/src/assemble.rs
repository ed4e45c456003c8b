//! Which services run in this process, and on which bus. The only place that knows them all.

use std::path::PathBuf;

use berth_bus::{Bus, Serving};
use berth_config::{ContentSharing, Durability, EventEncoding, LargeFiles, Settings};
use berth_model::Status;
use tokio::{sync::watch, task::JoinHandle};
use tracing::Instrument as _;

use crate::cli::{Service, nats_options};

/// The services that keep nothing on the disk.
const STATELESS: [Service; 2] = [Service::Fetcher, Service::Transfer];

/// The services that are still starting.
pub(crate) type Starting = JoinHandle<Result<Vec<Serving>, Status>>;

/// What the services of this process need to know.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    /// What this process is, for whoever finds the store held.
    pub(crate) holder: String,
    /// Whether it goes on until it is stopped, and so may do things in its own time.
    pub(crate) lasts: bool,
}

impl Plan {
    fn dir(&self, name: &str) -> PathBuf {
        self.settings.root.join(name)
    }

    fn gc(&self) -> berth_gc::Config {
        let gc = &self.settings.gc;
        let knobs = berth_gc::Knobs {
            pause_threshold: gc.pause_threshold,
            deletion_threshold: gc.deletion_threshold,
            mutation_threshold: gc.mutation_threshold,
            schedule_delay: gc.schedule_delay,
            startup_delay: gc.startup_delay,
            interval: gc.interval,
        };
        berth_gc::Config {
            ingest_age: gc.ingest_age,
            schedule: (gc.schedule && self.lasts).then_some(knobs),
            ..berth_gc::Config::default()
        }
    }

    fn transfer(&self, bus: &Bus) -> berth_transfer::Config {
        let in_flight = if bus.is_remote() {
            // How many workers there are, nobody knows.
            let pulls = &self.settings.pulls;
            berth_transfer::InFlight {
                small: pulls.small_downloads,
                large: pulls.large_downloads,
                unpacks: pulls.unpacks,
                ..berth_transfer::InFlight::default()
            }
        } else {
            let fetcher = berth_fetcher::Config::default();
            berth_transfer::InFlight::for_workers(
                self.settings.fetch_jobs.unwrap_or(fetcher.jobs),
                fetcher.client.large_downloads,
                self.settings.unpack_jobs.unwrap_or(berth_unpacker::Config::new(self.dir("snapshots")).jobs),
            )
        };
        berth_transfer::Config {
            lease: self.settings.lease_expiration,
            take_up: self.lasts,
            abandoned_after: self.settings.pulls.abandoned_after,
            in_flight,
            ..berth_transfer::Config::default()
        }
    }

    fn metadata(&self) -> berth_metadata::Config {
        let mut config = berth_metadata::Config::new(self.dir("metadata"));
        config.durability = self.durability();
        config.holder.clone_from(&self.holder);
        config.event_encoding = match self.settings.events.encoding {
            EventEncoding::Json => berth_metadata::EventEncoding::Json,
            EventEncoding::Protobuf => berth_metadata::EventEncoding::Protobuf,
        };
        config
    }

    fn durability(&self) -> berth_kv::Durability {
        match self.settings.durability {
            Durability::Synced => berth_kv::Durability::Synced,
            Durability::None => berth_kv::Durability::None,
        }
    }

    /// Starts one service on a bus. The gateway is not one of these: it serves a socket, not the bus.
    pub(crate) async fn start(&self, bus: &Bus, service: Service) -> Result<Vec<Serving>, Status> {
        tracing::debug!(?service, "starting");
        match service {
            Service::Content => {
                let mut config = berth_content::Config::new(self.dir("content"), &self.holder);
                config.durability = self.durability();
                berth_content::start(bus, config).await
            }
            Service::Metadata => berth_metadata::start(bus, self.metadata()).await,
            Service::Fetcher => {
                let mut config = berth_fetcher::Config::default();
                config.jobs = self.settings.fetch_jobs.unwrap_or(config.jobs);
                config.client.pieces = self.settings.pulls.connections_per_layer;
                config.client.http_2 = self.settings.pulls.http2;
                berth_fetcher::start(bus, config).await
            }
            Service::Unpacker => {
                let mut config = berth_unpacker::Config::new(self.dir("snapshots"));
                config.jobs = self.settings.unpack_jobs.unwrap_or(config.jobs);
                let overlayfs = self.settings.overlayfs.clone();
                config.mount_options = overlayfs.mount_options;
                config.upperdir_label = overlayfs.upperdir_label;
                config.sync_remove = overlayfs.sync_remove;
                config.flush = self.settings.durability == Durability::Synced;
                config.bypass = self.settings.large_files == LargeFiles::Auto;
                berth_unpacker::start(bus, config).await
            }
            Service::Transfer => berth_transfer::start(bus, self.transfer(bus)).await,
            Service::Gc => berth_gc::start(bus, self.gc()).await,
            Service::Gateway => Ok(Vec::new()),
        }
    }

    /// Starts all services on an in-process bus.
    pub(crate) async fn start_all(&self) -> Result<(Bus, Vec<Serving>), Status> {
        let bus = Bus::in_process();
        let mut serving = self.start_stores(&bus).await?;
        serving.extend(self.start_each(&bus, &STATELESS).await?);
        Ok((bus, serving))
    }

    /// Starts all services on an in-process bus, and answers when those are there that keep nothing on the disk: what is
    /// asked of them may go on while the stores are opened. Calls wait for the others; whoever makes them has to watch
    /// whether these come.
    pub(crate) async fn start_soon(&self) -> Result<(Bus, Vec<Serving>, Starting), Status> {
        let bus = Bus::in_process();
        let serving = self.start_each(&bus, &STATELESS).await?;
        let (plan, joined) = (self.clone(), bus.clone());
        let stores = async move { plan.start_stores(&joined).await };
        Ok((bus, serving, tokio::spawn(stores.in_current_span())))
    }

    /// The services with something on the disk, all in this process.
    async fn start_stores(&self, bus: &Bus) -> Result<Vec<Serving>, Status> {
        let mut serving = Vec::new();
        // The stores first: their locks decide whether the disk may be touched. Both at once: opening one is mostly waiting
        // for the disk, and neither asks the other.
        let (alone, told) = watch::channel(false);
        let metadata = berth_metadata::Config { alone: Some(told), ..self.metadata() };
        let (metadata, content) =
            tokio::join!(Box::pin(berth_metadata::start(bus, metadata)), Box::pin(self.start(bus, Service::Content)));
        serving.extend(metadata?);
        serving.extend(content?);
        // Both locks are held: whoever deleted here before is dead.
        alone.send_replace(true);
        serving.extend(self.start_each(bus, &[Service::Unpacker, Service::Gc]).await?);
        Ok(serving)
    }

    async fn start_each(&self, bus: &Bus, services: &[Service]) -> Result<Vec<Serving>, Status> {
        let mut serving = Vec::new();
        for service in services {
            serving.extend(Box::pin(self.start(bus, *service)).await?);
        }
        Ok(serving)
    }
}

/// Connects to the bus of other processes.
pub(crate) async fn connect(settings: &Settings, url: &str, name: &str, role: &str) -> Result<Bus, Status> {
    Bus::connect(nats_options(settings, url, name, role)).await
}

/// What the gateway says of itself.
pub(crate) fn info(settings: &Settings) -> berth_gateway::ServerInfo {
    berth_gateway::ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("BERTH_REVISION").unwrap_or("unknown").to_owned(),
        root: settings.root.display().to_string(),
        sharing: match settings.content_sharing {
            ContentSharing::Shared => berth_gateway::Sharing::Shared,
            ContentSharing::Isolated => berth_gateway::Sharing::Isolated,
        },
    }
}
