//! A page for people, and the JSON and event streams behind it: pulls as they run, workers, images, disk, events. It only shows; to
//! change something there is the API on the socket. `docs/http.md` is its contract.
//!
//! It listens on loopback unless told otherwise, and needs no password there; so that other web sites cannot read it through
//! a visitor's browser, it answers only to addresses and to names without a dot (DNS rebinding needs a name of the public
//! DNS), and says nothing of other origins.

mod api;
mod queues;
mod shapes;
mod streams;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use berth_bus::Bus;

use crate::{Backend, ServerInfo};

const HTML: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/app.js");
const STYLE: &str = include_str!("page/style.css");

/// Nothing from elsewhere, and no script but ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and what is behind it, until `stop`: then its streams end. Needs a tokio runtime.
pub fn page(bus: &Bus, info: ServerInfo, stop: impl Future<Output = ()> + Send + 'static) -> Router {
    let backend = Backend::new(bus, info);
    let stopping = backend.stopping.clone();
    tokio::spawn(async move {
        stop.await;
        stopping.cancel();
    });
    tokio::spawn(queues::count(bus.clone(), backend.clone()));
    let file =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", file("text/html; charset=utf-8", HTML))
        .route("/app.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/style.css", file("text/css; charset=utf-8", STYLE))
        .route("/api/v1/server", get(api::server))
        .route("/api/v1/pulls", get(api::pulls))
        .route("/api/v1/pulls/stream", get(streams::pulls))
        .route("/api/v1/pulls/{id}", get(api::pull))
        .route("/api/v1/pulls/{id}/stream", get(streams::pull))
        .route("/api/v1/queues", get(queues::queues))
        .route("/api/v1/images", get(api::images))
        .route("/api/v1/disk", get(api::disk))
        .route("/api/v1/events/stream", get(streams::events))
        .layer(middleware::from_fn(guard))
        .with_state(backend)
}

async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_near(host) {
        let why = "this page is not served under that name; use an address, such as 127.0.0.1\n";
        return (StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` is an address, or a name that only a local network knows.
fn is_near(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<std::net::IpAddr>().is_ok() || (!name.is_empty() && !name.contains(['.', '[', ':']))
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn names_of_the_public_dns_are_refused() {
        for (host, near) in [
            ("127.0.0.1:8719", true),
            ("127.0.0.1", true),
            ("[::1]:8719", true),
            ("localhost:8719", true),
            ("gateway:8719", true),
            ("192.168.1.7:80", true),
            ("evil.example:8719", false),
            ("localhost.", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            (":80", false),
        ] {
            assert_eq!(is_near(host), near, "{host}");
        }
    }
}
