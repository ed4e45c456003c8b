//! `GET /metrics` and `GET /healthz` over HTTP, for whoever scrapes; and whatever else the program adds.

use std::{future::Future, io, net::SocketAddr};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::Numbers;

/// A bound address.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    numbers: Option<Numbers>,
}

impl Endpoint {
    pub(crate) async fn bind(address: SocketAddr, numbers: Option<Numbers>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, numbers })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, and what is in `more` too.
    pub async fn serve(self, more: Router, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let Self { listener, numbers } = self;
        let shown = move || async move {
            let text = numbers.as_ref().map(Numbers::shown).unwrap_or_else(|| Ok(Vec::new()));
            match text {
                Ok(text) => {
                    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
                }
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
            }
        };
        let routes = more.route("/metrics", get(shown)).route("/healthz", get(|| async { "ok\n" }));
        axum::serve(listener, routes).with_graceful_shutdown(stop).await
    }
}
