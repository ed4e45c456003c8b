//! Where the gateway is reached: a unix socket, made here or handed over by whoever started this process; or memory.

use std::{
    future::Future,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use berth_model::Status;
use listenfd::ListenFd;
use tokio::{
    io::DuplexStream,
    net::{UnixListener, UnixStream},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::{Access, Routes, trace};

/// What sockets are called before they are ready; the name itself is always a socket that answers.
const UNREADY: &str = "starting";
/// The longest path a unix socket can have (unix(7): 108 bytes with the final zero).
const MAX_PATH: usize = 107;
/// How long requests may go on after the gateway was told to stop: a client that leaves a stream open and says nothing would
/// hold it for ever.
const DRAIN: Duration = Duration::from_secs(10);

/// A bound socket. If it was bound here, its name goes when this does.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    name: Option<Name>,
}

#[derive(Debug)]
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// The socket that systemd handed over (sd_listen_fds(3)), if it did: it made it, with the access it was told, and listens on
/// it also while this process is not there.
pub fn inherited() -> Result<Option<Listener>, Status> {
    let mut given = ListenFd::from_env();
    if given.len() == 0 {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Status::invalid_argument(format!(
            "what was handed over by LISTEN_FDS is no unix socket that listens ({error}); let the unit's ListenStream= be a path"
        ))
    };
    if given.len() > 1 {
        return Err(Status::invalid_argument(format!(
            "{} sockets were handed over by LISTEN_FDS; one is served, let the unit have one ListenStream=",
            given.len()
        )));
    }
    let socket = given.take_unix_listener(0).map_err(|error| wrong(&error))?.ok_or_else(|| wrong(&"it is taken"))?;
    socket.set_nonblocking(true).map_err(|error| wrong(&error))?;
    let socket = UnixListener::from_std(socket).map_err(|error| wrong(&error))?;
    Ok(Some(Listener { socket, name: None }))
}

/// Binds a socket. A name left by a dead process is taken over; one that answers is refused.
pub async fn listen(path: &Path, access: &Access) -> Result<Listener, Status> {
    let failed = |error: &io::Error| Status::io("listen on", path, error);
    if path.as_os_str().len() > MAX_PATH - UNREADY.len() - 1 {
        return Err(Status::invalid_argument(format!(
            "the address {} is too long for a unix socket; choose a shorter one with --address",
            path.display()
        )));
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Status::failed_precondition(format!(
            "another process answers on {}; stop it, or choose another --address",
            path.display()
        )));
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    }
    // Bound under another name, given its mode, then renamed: nobody ever finds it half made or too open.
    let unready = path.with_extension(UNREADY);
    drop(std::fs::remove_file(&unready));
    let socket = UnixListener::bind(&unready).map_err(|error| failed(&error))?;
    let permissions = std::fs::Permissions::from_mode(access.mode);
    std::fs::set_permissions(&unready, permissions).map_err(|error| failed(&error))?;
    let (owner, group) = access.ids();
    nix::unistd::chown(&unready, owner, group).map_err(|error| Status::io("give away", path, &error.into()))?;
    std::fs::rename(&unready, path).map_err(|error| failed(&error))?;
    Ok(Listener { socket, name: Some(Name(path.to_owned())) })
}

/// Serves on a socket until `stop`; requests that run are finished, for up to 10 s.
pub async fn serve(listener: Listener, routes: Routes, stop: impl Future<Output = ()>) -> Result<(), Status> {
    let Listener { socket, name } = listener;
    let Routes { routes, stopping } = routes;
    let stopped = stopping.clone();
    let stop = async {
        stop.await;
        stopping.cancel();
    };
    let serving = Server::builder()
        .trace_fn(trace::span)
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stop);
    let too_long = async {
        stopped.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let served = tokio::select! {
        served = serving => served,
        () = too_long => {
            tracing::warn!("clients' requests still run, {DRAIN:?} after the gateway was told to stop; they are cut off");
            Ok(())
        }
    };
    let name =
        || name.as_ref().map_or("the socket that was handed over".to_owned(), |name| name.0.display().to_string());
    served.map_err(|error| Status::internal(format!("serve on {}: {error}", name())))
}

/// Serves one connection in memory, for as long as its other end is there.
pub async fn serve_in_memory(connection: DuplexStream, routes: Routes) -> Result<(), Status> {
    let incoming = futures::StreamExt::chain(
        tokio_stream::once(Ok::<_, io::Error>(connection)),
        // The server ends when no connection can come any more, also while one runs: so none ever comes.
        futures::stream::pending(),
    );
    Server::builder()
        .trace_fn(trace::span)
        .add_routes(routes.routes)
        .serve_with_incoming(incoming)
        .await
        .map_err(|error| Status::internal(format!("serve in memory: {error}")))
}
