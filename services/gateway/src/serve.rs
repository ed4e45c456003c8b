//! Where the gateway is reached: a unix socket, or memory.

use std::{
    future::Future,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use berth_model::Status;
use tokio::{
    io::DuplexStream,
    net::{UnixListener, UnixStream},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{service::Routes, transport::Server};

/// What sockets are called before they are ready; the name itself is always a socket that answers.
const UNREADY: &str = "starting";
/// The longest path a unix socket can have (unix(7): 108 bytes with the final zero).
const MAX_PATH: usize = 107;

/// A bound socket; its name goes when this does.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    name: Name,
}

#[derive(Debug)]
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Binds a socket with mode 0660. A name left by a dead process is taken over; one that answers is refused.
pub async fn listen(path: &Path) -> Result<Listener, Status> {
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
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o660)).map_err(|error| failed(&error))?;
    std::fs::rename(&unready, path).map_err(|error| failed(&error))?;
    Ok(Listener { socket, name: Name(path.to_owned()) })
}

/// Serves on a socket until `stop`; requests that run are finished.
pub async fn serve(listener: Listener, routes: Routes, stop: impl Future<Output = ()>) -> Result<(), Status> {
    let Listener { socket, name } = listener;
    Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stop)
        .await
        .map_err(|error| Status::internal(format!("serve on {}: {error}", name.0.display())))
}

/// Serves one connection in memory, for as long as its other end is there.
pub async fn serve_in_memory(connection: DuplexStream, routes: Routes) -> Result<(), Status> {
    let incoming = futures::StreamExt::chain(
        tokio_stream::once(Ok::<_, io::Error>(connection)),
        // The server ends when no connection can come any more, also while one runs: so none ever comes.
        futures::stream::pending(),
    );
    Server::builder()
        .add_routes(routes)
        .serve_with_incoming(incoming)
        .await
        .map_err(|error| Status::internal(format!("serve in memory: {error}")))
}
