//! One request, its redirects followed by hand, no retries: the only file that makes HTTP requests.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use berth_model::Status;
use berth_telemetry::account;
use http::{
    HeaderValue, Method, Version,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, RANGE},
};
use reqwest::{Client, ClientBuilder, Response};
use rustls::ClientConfig;
use tracing::{Instrument as _, Span, field::Empty};
use url::Url;

use crate::{
    dns::Lookup,
    endpoint::is_loopback,
    errand::{authority, shown},
    failure::{Failure, FailureKind},
    hosts::{Hosts, Way},
    options::ClientOptions,
    range::Part,
    redirect, tls,
};

/// One request, complete.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    pub(crate) part: Part,
    pub(crate) authorization: Option<HeaderValue>,
    /// No redirect from HTTPS to HTTP: the answer is taken as it is.
    pub(crate) stay_safe: bool,
    /// A form to send along, URL-encoded.
    pub(crate) form: Option<String>,
    /// It is where the registry sent us before: what is for the registry alone does not go along.
    pub(crate) elsewhere: bool,
    /// The answer is large.
    pub(crate) large: bool,
}

impl Hop {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            accept: None,
            part: Part::default(),
            authorization: None,
            stay_safe: false,
            form: None,
            elsewhere: false,
            large: false,
        }
    }
}

/// Of an answer on whose way there was another server than the one that was asked.
#[derive(Clone, Copy)]
pub(crate) struct Elsewhere;

/// An answer, and whether it came from the server that was asked.
pub(crate) struct Landed {
    pub(crate) response: Response,
    pub(crate) same_origin: bool,
}

/// The connections, shared by all pulls.
pub(crate) struct Transport {
    /// Made when it is first wanted: reading the system's certificates takes some milliseconds, and most commands ask nobody.
    outside: OnceLock<Clients>,
    /// Loopback hosts: no proxy, no certificates.
    loopback: Clients,
    pub(crate) hosts: Hosts,
    options: ClientOptions,
}

/// The clients for one kind of hosts.
struct Clients {
    /// By HTTP/2 where the server has it: a hundred small answers need one connection, and one handshake.
    shared: Client,
    /// By HTTP/1.1: nearly all large answers of a server that speaks HTTP/2 have a connection, and so a window of TCP, of
    /// their own.
    own: Client,
}

impl Clients {
    fn new(
        options: &ClientOptions,
        tls: &ClientConfig,
        with: fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, Status> {
        let speaking =
            |versions: &[&str]| with(builder(options)).tls_backend_preconfigured(tls::speaking(tls.clone(), versions));
        let shared = speaking(if options.http_2 { &["h2", "http/1.1"] } else { &["http/1.1"] })
            .http2_initial_stream_window_size(options.stream_window)
            .http2_initial_connection_window_size(2 * options.stream_window)
            .http2_keep_alive_interval(options.ping_interval)
            .http2_keep_alive_timeout(options.ping_timeout);
        Ok(Self { shared: made(shared)?, own: made(speaking(&["http/1.1"]).http1_only())? })
    }
}

impl Transport {
    pub(crate) fn new(options: ClientOptions) -> Result<Self, Status> {
        let loopback = Clients::new(&options, &tls::trusting()?, ClientBuilder::no_proxy)?;
        Ok(Self { outside: OnceLock::new(), loopback, hosts: Hosts::new(options.far), options })
    }

    fn outside(&self) -> Result<&Clients, Status> {
        if let Some(clients) = self.outside.get() {
            return Ok(clients);
        }
        let clients = Clients::new(&self.options, &tls::verifying()?, |builder| builder)?;
        Ok(self.outside.get_or_init(|| clients))
    }

    /// Sends the request and follows redirects. `Authorization` goes along only as long as scheme, host and port stay.
    pub(crate) async fn once(&self, hop: &Hop) -> Result<Landed, Failure> {
        let mut url = hop.url.clone();
        let mut same_origin = !hop.elsewhere;
        for _ in 0..=self.options.max_redirects {
            let mut response = self.single(hop, &url, same_origin).await?;
            if !same_origin {
                response.extensions_mut().insert(Elsewhere);
            }
            if hop.form.is_some() || !redirect::is_redirect(response.status()) {
                return Ok(Landed { response, same_origin });
            }
            let next = redirect::next(&url, response.headers(), hop.stay_safe)
                .map_err(|why| Failure::new(FailureKind::Redirect, &url, why))?;
            same_origin &= next.same_origin;
            tracing::trace!(from = %shown(&url), to = %shown(&next.url), "redirected");
            url = next.url;
        }
        let why = format!("more than {} redirects", self.options.max_redirects);
        Err(Failure::new(FailureKind::Redirect, &url, why))
    }

    async fn single(&self, hop: &Hop, url: &Url, trusted: bool) -> Result<Response, Failure> {
        let span = tracing::info_span!(
            "registry.request",
            otel.name = hop.method.as_str(),
            otel.kind = "client",
            http.request.method = hop.method.as_str(),
            url.full = %shown(url),
            server.address = url.host_str(),
            http.response.status_code = Empty,
            error.type = Empty,
        );
        let answer = account::timed("answer", self.ask(hop, url, trusted, &span).instrument(span.clone())).await;
        match &answer {
            Ok(response) => span.record("http.response.status_code", response.status().as_u16()),
            Err(failure) => span.record("error.type", tracing::field::debug(&failure.kind)),
        };
        answer
    }

    async fn ask(&self, hop: &Hop, url: &Url, trusted: bool, span: &Span) -> Result<Response, Failure> {
        let clients = if url.host_str().is_some_and(is_loopback) {
            &self.loopback
        } else {
            self.outside().map_err(|status| Failure::new(FailureKind::Unreachable, url, status.message))?
        };
        let host = authority(url);
        let way = self.hosts.way(&host, hop.large, Instant::now());
        let own = matches!(way, Way::Own);
        let client = if own { &clients.own } else { &clients.shared };
        // Blobs are stored as they come: an encoding put on by a proxy would change their digest.
        let mut request = client.request(hop.method.clone(), url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(accept) = hop.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(range) = hop.part.header() {
            request = request.header(RANGE, range);
        }
        if let (Some(authorization), true) = (&hop.authorization, trusted) {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        // Whoever the registry sends us to is not part of the trace.
        for (name, value) in if trusted { berth_telemetry::context::outgoing(span) } else { Vec::new() } {
            request = request.header(name, value);
        }
        if let Some(form) = &hop.form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let asked = Instant::now();
        match tokio::time::timeout(self.options.response_timeout, request.send()).await {
            Ok(Ok(mut response)) => {
                if let Way::Shared(ride) = way {
                    response.extensions_mut().insert(ride);
                }
                let now = Instant::now();
                let shares = (!own).then(|| response.version() == Version::HTTP_2);
                self.hosts.answered(&host, shares, now.duration_since(asked), now);
                Ok(response)
            }
            Ok(Err(error)) => {
                let failure = Failure::of(url, error);
                let may_share = !own && url.scheme() == "https";
                let broke = may_share && failure.kind == FailureKind::Broken;
                if broke && self.hosts.broke(&host, asked, Instant::now()) {
                    tracing::info!(host, "connections broke again and again; no HTTP/2 with it for a while");
                }
                Err(failure)
            }
            Err(_elapsed) => {
                let why = format!("did not answer within {:?}", self.options.response_timeout);
                Err(Failure::new(FailureKind::Silent, url, why))
            }
        }
    }
}

fn builder(options: &ClientOptions) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .pool_max_idle_per_host(options.idle_connections)
        .pool_idle_timeout(options.idle_timeout)
        .dns_resolver(Arc::new(Lookup { fixed: options.static_hosts.clone() }))
}

fn made(builder: ClientBuilder) -> Result<Client, Status> {
    builder.build().map_err(|error| Status::internal(format!("HTTP client: {error}")))
}
