//! The commands: which one was typed, and what all of them need.

mod content;
mod events;
mod gc;
mod images;
mod jobs;
mod leases;
mod look;
mod mounting;
mod nats;
mod pull;
mod serve;
mod snapshots;
mod system;
mod version;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command, LogFormat},
    client::Client,
};

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let usual = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    let format = match cli.global.log_format {
        LogFormat::Text => berth_telemetry::Format::Text,
        LogFormat::Json => berth_telemetry::Format::Json,
    };
    berth_telemetry::start(cli.global.log_level.as_deref().unwrap_or(usual), format)?;
    let done = match cli.command {
        Command::Serve(serve) => serve::run(&cli.global, serve).await,
        Command::Pull(pull) | Command::Images(crate::cli::Images::Pull(pull)) => {
            return Box::pin(pull::run(&cli.global, pull)).await;
        }
        Command::Images(images) => images::run(&Client::connect(&cli.global, "images").await?, images).await,
        Command::Snapshots(snapshots) => {
            snapshots::run(&Client::connect(&cli.global, "snapshots").await?, snapshots).await
        }
        Command::Leases(leases) => leases::run(&Client::connect(&cli.global, "leases").await?, leases).await,
        Command::Gc(gc) => return gc::run(&Client::connect(&cli.global, "gc").await?, gc).await,
        Command::Content(crate::cli::Content::Gc(run)) => {
            return gc::collect(&Client::connect(&cli.global, "content gc").await?, &run).await;
        }
        Command::Content(crate::cli::Content::Fsck(fsck)) => {
            return gc::check(&Client::connect(&cli.global, "content fsck").await?, &fsck).await;
        }
        Command::Content(content) => content::run(&Client::connect(&cli.global, "content").await?, content).await,
        Command::System(system) => system::run(&Client::connect(&cli.global, "system").await?, system).await,
        Command::Events(events) => events::run(&Client::connect(&cli.global, "events").await?, events).await,
        Command::Jobs(jobs) => jobs::run(&Client::connect(&cli.global, "jobs").await?, jobs).await,
        Command::Nats(nats) => nats::run(&cli.global, &nats),
        Command::Version(json) => version::run(&cli.global, &json).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// An error of the services, as a person shall read it.
pub(crate) fn refused(status: tonic::Status) -> anyhow::Error {
    berth_gateway::from_grpc(&status).into()
}

/// Commands that change mounts or owners cannot work otherwise.
pub(crate) fn need_root(what: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    anyhow::bail!("{what} needs root; run the same command as root (sudo berth ...)")
}
