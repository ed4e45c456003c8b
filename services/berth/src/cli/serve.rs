//! `berth serve`, and what looks at what is served: `berth healthcheck` and `berth top`, as they are typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  berth serve                                         all services, in one process
  berth serve content --nats nats://127.0.0.1:4222    one service; the others elsewhere
  berth --nats nats://127.0.0.1:4222 pull alpine      a pull by those services")]
pub(crate) struct Serve {
    /// Which service; without it, all of them in this process
    #[arg(value_enum)]
    pub(crate) service: Option<Service>,
    /// Jobs done at once (of fetcher and unpacker)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: Option<u16>,
    /// Who may talk to the socket, as chmod has it [default: 0660]
    #[arg(long, env = "BERTH_SOCKET_MODE", value_name = "MODE")]
    pub(crate) socket_mode: Option<String>,
    /// The socket's owner, a name or a number [default: this user]
    #[arg(long, env = "BERTH_SOCKET_OWNER", value_name = "USER")]
    pub(crate) socket_owner: Option<String>,
    /// The socket's group, a name or a number [default: this user's]
    #[arg(long, env = "BERTH_SOCKET_GROUP", value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,
    /// Serve numbers over HTTP here, for Prometheus; "off" for nowhere [default: 127.0.0.1:8719 for the daemon and the gateway,
    /// if it is free]
    #[arg(long, env = "BERTH_HTTP", value_name = "ADDRESS")]
    pub(crate) http: Option<String>,
    /// Say on this socket how the service is, to `berth healthcheck`
    #[arg(long, env = "BERTH_HEALTH_SOCKET", value_name = "PATH")]
    pub(crate) health_socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// The health socket of the service to ask; without it, the daemon's own socket is asked
    #[arg(long = "health-socket", env = "BERTH_HEALTH_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=600))]
    pub(crate) timeout: u16,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    Content,
    Metadata,
    Fetcher,
    Unpacker,
    Transfer,
    Gc,
    Gateway,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Print what there is now, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How often to look
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) interval: std::time::Duration,
}
