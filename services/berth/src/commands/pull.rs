//! `berth pull`.

use std::{io::IsTerminal as _, process::ExitCode};

use berth_model::Status;
use berth_telemetry::Telemetry;
use berth_wire::{fetcher::Access, transfer::StartPullRequest, types};

use crate::{
    cli::{Global, Pull},
    client::Client,
    commands::{
        following::{self, Shown, Way},
        pulls, refused,
    },
    leaving::Ended,
    output,
};

pub(crate) async fn run(global: &Global, pull: Pull, telemetry: &Telemetry) -> anyhow::Result<Ended> {
    // What can be refused without a store is refused before one is made.
    pull.reference.parse::<berth_model::Reference>()?;
    let access = access(&pull)?;
    let mut client = Client::begin(global, "pull").await?;
    if client.is_local && !pull.no_unpack && !rustix::process::geteuid().is_root() {
        return Err(Status::failed_precondition(
            "unpacking needs root, for owners, devices and overlayfs; run as root, or use --no-unpack to only fetch",
        )
        .into());
    }
    let request = StartPullRequest {
        namespace: client.namespace.clone(),
        reference: pull.reference.clone(),
        platforms: pull.platform.iter().map(types::Platform::from).collect::<Vec<_>>(),
        snapshotter: pull.snapshotter.clone().unwrap_or_else(|| client.settings.snapshotter.clone()),
        no_unpack: pull.no_unpack,
        access: Some(access),
        labels: pull.label.iter().cloned().collect(),
        detached: pull.detach,
        priority: pulls::priority(pull.priority).into(),
        timeout_ms: pull.timeout.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        ..StartPullRequest::default()
    };
    if pull.detach {
        if client.is_local {
            return Err(Status::failed_precondition(
                "--detach leaves the pull to a daemon, and none runs here; start one with `berth serve`, or pull without --detach",
            )
            .into());
        }
        let started = client.pulls().start(request).await.map_err(refused)?.into_inner();
        output::print(&started.pull_id)?;
        return Ok(ExitCode::SUCCESS.into());
    }
    let shown = Shown { json: pull.json, quiet: pull.quiet, chain_ids: pull.print_chainid };
    let done = client.while_starting(async |client| following::follow(client, Way::Start(request), shown).await).await;
    if telemetry.has_traces() {
        // Spans of the services end after their answers. Those of a pull that failed are wanted most.
        client.close().await;
        return Ok(done?.into());
    }
    let code = done?;
    if client.is_local && code == ExitCode::SUCCESS {
        // Its services are not even told to stop: that alone wakes each of their threads.
        std::mem::forget(client);
        return Ok(Ended::Wholly);
    }
    Ok(code.into())
}

/// Who asks the registry. A password comes from the command line, the environment, or the keyboard.
fn access(pull: &Pull) -> anyhow::Result<Access> {
    let mut access = Access { plain_http: pull.plain_http, ..Access::default() };
    let Some(user) = &pull.user else { return Ok(access) };
    if let Some((name, password)) = user.split_once(':') {
        access.username = name.to_owned();
        access.secret = password.to_owned();
    } else {
        access.username.clone_from(user);
        access.secret = match std::env::var("BERTH_PASSWORD") {
            Ok(password) => password,
            Err(_unset) if std::io::stdin().is_terminal() => {
                rpassword::prompt_password(format!("Password of {user}: "))?
            }
            Err(_unset) => {
                anyhow::bail!("--user {user} comes without a password; set BERTH_PASSWORD, or write NAME:PASSWORD")
            }
        };
    }
    if access.username.is_empty() {
        anyhow::bail!("--user needs a name: NAME or NAME:PASSWORD");
    }
    Ok(access)
}
