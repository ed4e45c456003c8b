//! How many threads the runtime has: one for each processor, and fewer where a service has a process of its own.

use std::{io, num::NonZero, thread::available_parallelism};

use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command, Service};

/// What these services do on the runtime is messages; hashing, inflating, files and records have threads of their own. With a
/// thread for each processor in each of seven processes, every message wakes some that find nothing to do. Two, so that
/// nobody waits behind one that is held up.
const FOR_MESSAGES: usize = 2;

/// The runtime for a command. `TOKIO_WORKER_THREADS` says something else, if it is there.
pub(crate) fn runtime(cli: &Cli) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    let said = std::env::var_os("TOKIO_WORKER_THREADS").is_some();
    if let (false, Some(threads)) = (said, enough(&cli.command)) {
        builder.worker_threads(available_parallelism().map_or(threads, |all| NonZero::get(all).min(threads)));
    }
    builder.enable_all().build()
}

/// As many as a command can use, if that is less than all. Bytes of blobs go through fetcher and gateway, on the runtime.
fn enough(command: &Command) -> Option<usize> {
    let Command::Serve(serve) = command else { return None };
    match serve.service? {
        Service::Fetcher | Service::Gateway => None,
        Service::Content | Service::Metadata | Service::Unpacker | Service::Transfer | Service::Gc => {
            Some(FOR_MESSAGES)
        }
    }
}
