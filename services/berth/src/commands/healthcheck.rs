//! `berth healthcheck`: asks the service on this machine, or in this container, how it is; the exit code says it.

use std::{process::ExitCode, time::Duration};

use berth_model::Status;

use crate::{
    cli::{Global, Healthcheck},
    client, health, output,
};

pub(crate) async fn run(global: &Global, check: Healthcheck) -> anyhow::Result<ExitCode> {
    let limit = Duration::from_secs(u64::from(check.timeout));
    let found = match &check.socket {
        Some(path) => health::ask(path, limit).await,
        None => daemon(global, limit).await,
    };
    let health = found.unwrap_or_else(|status| health::Health {
        service: "berth".to_owned(),
        ok: false,
        detail: status.message,
    });
    if check.json {
        output::print_json(&health)?;
    } else {
        output::print(&format!("{}: {}", health.service, health.detail))?;
    }
    Ok(if health.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The daemon's own word, through its socket.
async fn daemon(global: &Global, limit: Duration) -> Result<health::Health, Status> {
    let settings = client::settings(global)?;
    let address = client::address(global, &settings);
    let shown = address.display();
    let detail = match tokio::time::timeout(limit, client::daemon(address.clone())).await {
        Ok(Ok(Some(_channel))) => {
            return Ok(health::Health {
                service: "berth".to_owned(),
                ok: true,
                detail: format!("it serves on {shown}"),
            });
        }
        Ok(Ok(None)) => format!("nobody listens on {shown}; start `berth serve`, or name another --address"),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_elapsed) => format!("the daemon on {shown} does not answer within {limit:?}"),
    };
    Err(Status::unavailable(detail))
}
