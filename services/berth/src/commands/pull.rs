//! `berth pull`.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use berth_model::{Code, Status};
use berth_wire::{
    fetcher::Access,
    transfer::{PullState, StartPullRequest, pull_state::Phase},
    types,
};

use crate::{
    cli::{Global, Pull},
    client::Client,
    commands::refused,
    failure, output, progress,
};

pub(crate) async fn run(global: &Global, pull: Pull) -> anyhow::Result<ExitCode> {
    // What can be refused without a store is refused before one is made.
    pull.reference.parse::<berth_model::Reference>()?;
    let access = access(&pull)?;
    let client = Client::connect(global, "pull").await?;
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
    };
    let mut states = client.transfer().pull(request).await.map_err(refused)?.into_inner();
    let mut progress = progress::choose(&pull, std::io::stderr().is_terminal());
    let mut last = PullState::default();
    loop {
        let next = tokio::select! {
            next = states.message() => next.map_err(refused)?,
            _ = tokio::signal::ctrl_c() => {
                progress.end();
                // Leaving the stream leaves the pull; an in-process one ends with us. Either way the bytes stay.
                drop(states);
                eprintln!("interrupted; what was fetched is kept, run the same command to go on");
                return Ok(ExitCode::from(failure::INTERRUPTED));
            }
        };
        let Some(state) = next else { break };
        progress.show(&state)?;
        last = state;
    }
    progress.end();
    match last.phase() {
        Phase::Done => {
            summary(&pull, &last)?;
            Ok(ExitCode::SUCCESS)
        }
        Phase::Failed => {
            let status = Status::new(Code::from_number(last.code), last.message);
            let named = status.message.contains(&last.reference);
            let error = anyhow::Error::from(status);
            Err(if named { error } else { error.context(format!("pull {}", last.reference)) })
        }
        _ => Err(Status::unavailable(format!(
            "the pull of {} ended without an answer: the service that ran it went away; run the same command to go on",
            pull.reference
        ))
        .into()),
    }
}

fn summary(pull: &Pull, state: &PullState) -> anyhow::Result<()> {
    if pull.json {
        return Ok(());
    }
    if pull.quiet {
        let target = state.target.as_ref().map(|target| target.digest.clone()).unwrap_or_default();
        output::print(&target)?;
    } else {
        writeln!(std::io::stderr().lock(), "{}", progress::total(state))?;
    }
    if pull.print_chainid {
        state.chain_ids.iter().try_for_each(|chain_id| output::print(chain_id))?;
    }
    Ok(())
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
