//! `berth serve`: all services behind a socket, or one of them on a NATS server.

use std::path::Path;

use berth_bus::{Bus, Serving};
use berth_gateway::{Access, Listener};
use berth_model::Status;
use berth_telemetry::Telemetry;

use crate::{
    assemble::{self, Plan},
    cli::{Global, Serve, Service},
    client, health, stopping, web,
};

pub(crate) async fn run(global: &Global, serve: Serve, telemetry: &Telemetry) -> anyhow::Result<()> {
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

    let stop = stopping::listen()?;
    let numbers =
        async |more: axum::Router, usual: bool| web::start(telemetry, serve.http.as_deref(), usual, more, &stop).await;
    let (found, seen) = tokio::sync::watch::channel(None);
    let name = serve.service.map_or_else(|| "berth".to_owned(), |_named| word.trim().to_owned());
    let answering = serve.health_socket.as_deref().map(|path| health::answer(path, &name, seen)).transpose()?;
    let url = url.as_deref();
    let started = async {
        let (bus, serving): (Bus, Vec<Serving>) = match (serve.service, url) {
            (None, None) => {
                // Before the stores are opened: a daemon that answers there holds them, and can say so better.
                let listener = listener(&address, &access).await?;
                let (bus, serving) = plan.start_all().await?;
                numbers(berth_gateway::page(&bus, info.clone(), stop.asked()), true).await?;
                found.send_replace(Some(bus.clone()));
                tracing::info!(address = %address.display(), root = %root.display(), "listening");
                berth_gateway::serve(listener, berth_gateway::routes(&bus, info).described()?, stop.asked()).await?;
                (bus, serving)
            }
            (Some(Service::Gateway), Some(url)) => {
                let bus = assemble::connect(settings, url, "berth gateway", "gateway").await?;
                numbers(berth_gateway::page(&bus, info.clone(), stop.asked()), true).await?;
                let listener = listener(&address, &access).await?;
                found.send_replace(Some(bus.clone()));
                tracing::info!(address = %address.display(), "listening");
                berth_gateway::serve(listener, berth_gateway::routes(&bus, info).described()?, stop.asked()).await?;
                (bus, Vec::new())
            }
            (Some(service), Some(url)) => {
                let bus = assemble::connect(settings, url, &format!("berth{word}"), word.trim()).await?;
                numbers(axum::Router::new(), false).await?;
                let serving = plan.start(&bus, service).await?;
                found.send_replace(Some(bus.clone()));
                tracing::info!(service = word.trim(), root = %root.display(), "serving");
                stop.asked().await;
                (bus, serving)
            }
            (Some(_), None) => {
                anyhow::bail!("`berth serve{word}` needs a bus to meet the other services on: --nats URL")
            }
            (None, Some(_)) => anyhow::bail!(
                "with --nats name the service to run here (content, metadata, fetcher, unpacker, transfer, gc or \
                 gateway); without --nats, `berth serve` runs all of them in this process"
            ),
        };
        Ok(Some((bus, serving)))
    };
    // Who is still waiting for the NATS server has nothing to finish.
    let begun = tokio::select! {
        biased;
        done = started => done?,
        () = async {
            stop.asked().await;
            // Who has started ends by itself, in order.
            if found.borrow().is_some() {
                std::future::pending::<()>().await;
            }
        } => None,
    };
    tracing::info!("stopping");
    drop(answering);
    if let Some((bus, serving)) = begun {
        // All at once: together they take no longer than the slowest.
        futures::future::join_all(serving.into_iter().map(Serving::stop)).await;
        drop(bus);
    }
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
