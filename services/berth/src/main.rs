//! `berth`: the command line, each service, and all services in one process.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod assemble;
mod cli;
mod client;
mod commands;
mod failure;
mod health;
mod leaving;
mod mount;
mod output;
mod progress;
mod roles;
mod stopping;
mod threads;
mod web;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    if let Err(wrong) = berth_failpoint::arm() {
        return failure::report(&anyhow::anyhow!(wrong));
    }
    let runtime = match threads::runtime(&cli) {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&anyhow::anyhow!("the runtime could not be started: {error}")),
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(leaving::Ended::Wholly) => leaving::at_once(),
        Ok(leaving::Ended::With(code)) => Ok(code),
        Err(error) => Err(error),
    };
    // Threads that wait on a disk or a network are not waited for; what matters was flushed before it was acknowledged.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code.unwrap_or_else(|error| failure::report(&error))
}
