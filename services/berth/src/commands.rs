//! The commands: which one was typed, and what all of them need.

mod ahead;
mod content;
mod events;
mod explain;
mod following;
mod gc;
mod healthcheck;
mod images;
mod jobs;
mod leases;
mod look;
mod mounting;
mod nats;
mod pull;
mod pulls;
mod serve;
mod snapshots;
mod system;
mod top;
mod version;
mod waterfall;

use std::process::ExitCode;

use berth_telemetry::{Telemetry, Telling};
use tracing::Instrument as _;

use crate::{
    cli::{Cli, Command, LogFormat},
    client::Client,
    leaving::Ended,
};

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<Ended> {
    let telemetry = berth_telemetry::start(telling(&cli))?;
    // A daemon works for others, whose traces are their own.
    if matches!(cli.command, Command::Serve(_)) {
        return Box::pin(dispatch(cli, &telemetry)).await;
    }
    let span = tracing::info_span!("berth", otel.name = format_args!("berth {}", word(&cli.command)));
    // Whoever started this command may be part of a trace, and says so as other programs are told.
    let given: Vec<(&str, String)> = ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name.to_uppercase()).ok()?)))
        .collect();
    let header = |name: &'static str| given.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str());
    berth_telemetry::context::adopt(&span, header);
    Box::pin(dispatch(cli, &telemetry).instrument(span)).await
}

/// What is told of this process, and as whom.
fn telling(cli: &Cli) -> Telling {
    let (usual, service) = match &cli.command {
        Command::Serve(serve) => ("info", serve.service.map(|service| format!("berth-{service:?}").to_lowercase())),
        _ => ("warn", None),
    };
    Telling {
        filter: cli.global.log_level.as_deref().unwrap_or(usual).to_owned(),
        format: match cli.global.log_format {
            LogFormat::Text => berth_telemetry::Format::Text,
            LogFormat::Json => berth_telemetry::Format::Json,
        },
        service: service.unwrap_or_else(|| "berth".to_owned()),
        version: env!("CARGO_PKG_VERSION"),
        lasts: matches!(cli.command, Command::Serve(_)),
    }
}

/// The command without what follows it, which may be secret.
fn word(command: &Command) -> String {
    let all = format!("{command:?}").to_lowercase();
    all.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default().to_owned()
}

async fn dispatch(cli: Cli, telemetry: &Telemetry) -> anyhow::Result<Ended> {
    let done = match cli.command {
        Command::Serve(serve) => serve::run(&cli.global, serve, telemetry).await,
        Command::Pull(pull) | Command::Images(crate::cli::Images::Pull(pull)) => {
            return Box::pin(pull::run(&cli.global, pull, telemetry)).await;
        }
        Command::Pulls(pulls) => {
            return Ok(pulls::run(&Client::connect(&cli.global, "pulls").await?, pulls).await?.into());
        }
        Command::Images(images) => images::run(&Client::connect(&cli.global, "images").await?, images).await,
        Command::Snapshots(snapshots) => {
            snapshots::run(&Client::connect(&cli.global, "snapshots").await?, snapshots).await
        }
        Command::Leases(leases) => leases::run(&Client::connect(&cli.global, "leases").await?, leases).await,
        Command::Gc(gc) => return Ok(gc::run(&Client::connect(&cli.global, "gc").await?, gc).await?.into()),
        Command::Content(crate::cli::Content::Gc(run)) => {
            return Ok(gc::collect(&Client::connect(&cli.global, "content gc").await?, &run).await?.into());
        }
        Command::Content(crate::cli::Content::Fsck(fsck)) => {
            return Ok(gc::check(&Client::connect(&cli.global, "content fsck").await?, &fsck).await?.into());
        }
        Command::Content(content) => content::run(&Client::connect(&cli.global, "content").await?, content).await,
        Command::System(system) => system::run(&Client::connect(&cli.global, "system").await?, system).await,
        Command::Events(events) => events::run(&Client::connect(&cli.global, "events").await?, events).await,
        Command::Top(top) => top::run(&Client::connect(&cli.global, "top").await?, &top).await,
        Command::Healthcheck(check) => return Ok(healthcheck::run(&cli.global, check).await?.into()),
        Command::Jobs(jobs) => jobs::run(&Client::connect(&cli.global, "jobs").await?, jobs).await,
        Command::Nats(nats) => nats::run(&cli.global, &nats),
        Command::Version(json) => version::run(&cli.global, &json).await,
    };
    done.map(|()| Ended::With(ExitCode::SUCCESS))
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
