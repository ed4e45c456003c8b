//! A way to the server that can be held up: bytes wait in it, as in a network that is too slow.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes on, until it is told to hold those for the client back.
pub(crate) struct Proxy {
    address: SocketAddr,
    held: Arc<Mutex<watch::Sender<bool>>>,
}

impl Proxy {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::new(Mutex::new(watch::Sender::new(false)));
        let accepting = Arc::clone(&held);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, None));
                let receiver = accepting.lock().unwrap().subscribe();
                tokio::spawn(pass(from_server, to_client, Some(receiver)));
            }
        });
        Self { address, held }
    }

    pub(crate) fn url(&self) -> String {
        format!("tls://{}", self.address)
    }

    pub(crate) fn hold(&self) {
        self.held.lock().unwrap().send_replace(true);
    }

    /// From the connections that there are nothing comes any more, and nobody is told; new ones work. As when a cable is
    /// pulled and another one plugged in.
    pub(crate) fn cut(&self) {
        let mut held = self.held.lock().unwrap();
        held.send_replace(true);
        // Kept, or those who wait would see its end.
        std::mem::forget(std::mem::replace(&mut *held, watch::Sender::new(false)));
    }

    pub(crate) fn release(&self) {
        self.held.lock().unwrap().send_replace(false);
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, held: Option<watch::Receiver<bool>>) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if let Some(mut held) = held.clone()
            && held.wait_for(|held| !held).await.is_err()
        {
            return;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
