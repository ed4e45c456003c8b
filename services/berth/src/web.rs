//! What a daemon says over HTTP on loopback: its numbers, and how it is.

use std::net::SocketAddr;

use anyhow::Context as _;
use berth_telemetry::Telemetry;

use crate::stopping::Stop;

/// Where it listens unless told otherwise.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8719);

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nowhere,
    /// If nobody else does.
    Usual,
    There(SocketAddr),
}

fn wish(given: Option<&str>, usual: bool) -> anyhow::Result<Wish> {
    Ok(match given.map(str::trim) {
        None | Some("") if usual => Wish::Usual,
        None | Some("" | "off") => Wish::Nowhere,
        Some(text) => Wish::There(
            text.parse()
                .with_context(|| format!("--http {text:?} is no address, such as 127.0.0.1:8719, nor \"off\""))?,
        ),
    })
}

/// Begins to listen, and serves until the process stops. `usual`: also if nobody said where.
pub(crate) async fn start(
    telemetry: &Telemetry,
    given: Option<&str>,
    usual: bool,
    more: axum::Router,
    stop: &Stop,
) -> anyhow::Result<()> {
    let endpoint = match wish(given, usual)? {
        Wish::Nowhere => return Ok(()),
        Wish::There(address) => telemetry.endpoint(address).await.with_context(|| format!("listen on {address}"))?,
        Wish::Usual => match telemetry.endpoint(USUAL).await {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::info!(address = %USUAL, %error, "numbers are not served over HTTP; choose an address with --http");
                return Ok(());
            }
        },
    };
    tracing::info!(address = %endpoint.address()?, "numbers are served over HTTP: /metrics");
    let stop = stop.asked();
    tokio::spawn(async move {
        if let Err(error) = endpoint.serve(more, stop).await {
            tracing::warn!(%error, "numbers are not served over HTTP any more");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        let there = |text: &str| Some(Wish::There(text.parse().unwrap()));
        for (given, usual, expected) in [
            (None, true, Some(Wish::Usual)),
            (None, false, Some(Wish::Nowhere)),
            (Some(""), false, Some(Wish::Nowhere)),
            (Some("off"), true, Some(Wish::Nowhere)),
            (Some("[::1]:80"), false, there("[::1]:80")),
            (Some("127.0.0.1:0"), true, there("127.0.0.1:0")),
            (Some("localhost"), true, None),
        ] {
            assert_eq!(wish(given, usual).ok(), expected, "{given:?}");
        }
    }
}
