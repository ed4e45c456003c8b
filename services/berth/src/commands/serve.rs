//! `berth serve`: all services behind a socket, or one of them on a NATS server.

use std::path::Path;

use berth_bus::{Bus, Serving};
use berth_gateway::{Access, Listener};
use berth_model::Status;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    assemble::{self, Plan},
    cli::{Global, Serve, Service},
    client,
};

pub(crate) async fn run(global: &Global, serve: Serve) -> anyhow::Result<()> {
    let mut settings = client::settings(global)?;
    let address = client::address(global, &settings);
    if let Some(jobs) = serve.concurrency {
        settings.fetch_jobs = Some(usize::from(jobs));
        settings.unpack_jobs = Some(usize::from(jobs));
    }
    if let Some(mode) = serve.socket_mode {
        settings.socket.mode = mode;
    }
    if let Some(owner) = serve.socket_owner {
        settings.socket.owner = owner;
    }
    if let Some(group) = serve.socket_group {
        settings.socket.group = group;
    }
    let access = Access::parse(&settings.socket.mode, &settings.socket.owner, &settings.socket.group)?;
    let word = serve.service.map(|service| format!(" {service:?}").to_lowercase()).unwrap_or_default();
    let root = settings.root.clone();
    let info = assemble::info(&settings);
    let (settings, url) = (&settings.clone(), settings.nats.url.clone());
    let plan = Plan { settings: settings.clone(), holder: format!("berth serve{word}"), lasts: true };

    let (bus, serving): (Bus, Vec<Serving>) = match (serve.service, &url) {
        (None, None) => {
            // Before the stores are opened: a daemon that answers there holds them, and can say so better.
            let listener = listener(&address, &access).await?;
            let (bus, serving) = plan.start_all().await?;
            tracing::info!(address = %address.display(), root = %root.display(), "listening");
            berth_gateway::serve(listener, berth_gateway::routes(&bus, info)?, stopped()).await?;
            (bus, serving)
        }
        (Some(Service::Gateway), Some(url)) => {
            let bus = assemble::connect(settings, url, "berth gateway", "gateway").await?;
            let listener = listener(&address, &access).await?;
            tracing::info!(address = %address.display(), "listening");
            berth_gateway::serve(listener, berth_gateway::routes(&bus, info)?, stopped()).await?;
            (bus, Vec::new())
        }
        (Some(service), Some(url)) => {
            let bus = assemble::connect(settings, url, &format!("berth{word}"), word.trim()).await?;
            let serving = plan.start(&bus, service).await?;
            tracing::info!(service = word.trim(), root = %root.display(), "serving");
            stopped().await;
            (bus, serving)
        }
        (Some(_), None) => anyhow::bail!("`berth serve{word}` needs a bus to meet the other services on: --nats URL"),
        (None, Some(_)) => anyhow::bail!(
            "with --nats name the service to run here (content, metadata, fetcher, unpacker, transfer, gc or gateway); \
             without --nats, `berth serve` runs all of them in this process"
        ),
    };
    tracing::info!("stopping");
    for guard in serving {
        guard.stop().await;
    }
    drop(bus);
    Ok(())
}

/// The socket that was handed over, or else one of our own.
async fn listener(address: &Path, access: &Access) -> Result<Listener, Status> {
    match berth_gateway::inherited()? {
        Some(listener) => {
            tracing::info!(
                "serving the socket that was handed over; --address and the settings of the socket do not count"
            );
            Ok(listener)
        }
        None => berth_gateway::listen(address, access).await,
    }
}

/// Ends when somebody wants the process to stop.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
