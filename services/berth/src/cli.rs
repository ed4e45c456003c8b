//! The command line as it is typed. Names and aliases follow `ctr`.

mod nats;
mod pulls;
mod serve;
mod snapshots;
mod upkeep;

use std::path::PathBuf;

use berth_model::Platform;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use nats::{Nats, NatsFlags, options as nats_options};
pub(crate) use pulls::{Priority, Pulls};
pub(crate) use serve::{Healthcheck, Serve, Service, Top};
pub(crate) use snapshots::{Snapshots, Snapshotter};
pub(crate) use upkeep::{Fsck, Gc, GcCommand, Jobs, Leases, Run, System};

/// Pulls container images and manages their blobs.
///
/// Without a daemon every command runs by itself: nothing to configure, nothing to start. When `berth serve` runs, the
/// same commands talk to it.
#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "\
Examples:
  berth pull alpine:3.20                 pull and unpack an image (as root)
  berth images ls                        what there is
  berth images mount alpine:3.20 /mnt    look into it
  berth pull --no-unpack alpine          only fetch; needs no root with a --root of your own
  berth serve                            run as a daemon on a unix socket"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Where everything is kept [default: /var/lib/berth]
    #[arg(long, global = true, env = "BERTH_ROOT", value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// The daemon's socket [default: /run/berth/berth.sock, or DIR/berth.sock with --root DIR]
    #[arg(long, short, global = true, env = "BERTH_ADDRESS", value_name = "PATH")]
    pub(crate) address: Option<PathBuf>,
    /// Only by a daemon, which is waited for; never run the services inside this command
    #[arg(long, global = true, env = "BERTH_DAEMON_ONLY")]
    pub(crate) daemon_only: bool,
    /// The namespace: each sees only its own images, content and snapshots
    #[arg(long, short, global = true, env = "BERTH_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
    /// What to log: error, warn, info, debug, trace, or directives like warn,berth_fetcher=debug [default: warn; serve: info]
    #[arg(long, global = true, env = "BERTH_LOG", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// The form of log lines
    #[arg(long, global = true, env = "BERTH_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// The configuration file [default: /etc/berth/config.toml, if it is there]
    #[arg(long, global = true, env = "BERTH_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) nats: NatsFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pull an image from a registry
    Pull(Pull),
    /// See pulls that run or ran: list, watch, attach, cancel
    #[command(subcommand)]
    Pulls(Pulls),
    /// Manage images
    #[command(subcommand, visible_aliases = ["image", "i"])]
    Images(Images),
    /// Manage content: the blobs images are made of
    #[command(subcommand)]
    Content(Content),
    /// Manage snapshots: unpacked layers and what is mounted from them
    #[command(subcommand, visible_alias = "snapshot")]
    Snapshots(Snapshots),
    /// Manage leases: what a lease names is not collected
    #[command(subcommand, visible_alias = "lease")]
    Leases(Leases),
    /// Jobs that workers gave up on: look at them, put them back
    #[command(subcommand, visible_alias = "job")]
    Jobs(Jobs),
    /// Collect what nothing refers to; or say why something is kept
    Gc(Gc),
    /// What takes the disk
    #[command(subcommand)]
    System(System),
    /// Follow events as JSON lines
    #[command(
        visible_alias = "event",
        after_help = "\
Examples:
  berth events                           what happens from now on
  berth events --since 0 --until-now     all that is kept, then end
  berth events --since 41                what came after number 41, and goes on
  berth events --with-state              what there is, then what happens, without a gap"
    )]
    Events(Events),
    /// Run the services as a daemon
    Serve(Serve),
    /// Pulls, queues and workers, live
    #[command(after_help = "\
Examples:
  berth top                 q ends it
  berth top --once          what there is now
  berth top --json          a JSON object on a line, again and again; with --once, one")]
    Top(Top),
    /// Ask a service on this machine how it is: exit code 0 if it serves, else 1
    #[command(after_help = "\
Examples:
  berth healthcheck                                    the daemon behind --address
  berth healthcheck --health-socket /run/berth/h.sock  the service that was started with the same option")]
    Healthcheck(Healthcheck),
    /// Prepare a NATS server for services in many processes
    #[command(subcommand)]
    Nats(Nats),
    /// Show the versions of this program and of the daemon
    Version(Json),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  berth pull alpine                                       docker.io/library/alpine:latest
  berth pull --platform linux/arm64 alpine:3.20
  berth pull --plain-http localhost:5000/team/app:1
  berth pull --user alice registry.example.com/team/app   asks for the password
  berth pull --json alpine | jq -r .phase
  berth pull --detach --priority low --timeout 2h big/image   goes on by itself; see berth pulls

A pull that was interrupted goes on where it stopped when it is repeated.")]
pub(crate) struct Pull {
    /// The image, as you would write it for any tool: alpine, alpine:3.20, host:5000/a/b@sha256:...
    pub(crate) reference: String,
    /// Pull for this platform instead of the host's; may be repeated
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Vec<Platform>,
    /// Speak http, not https, to the registry
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Who asks. Without a password it is read from BERTH_PASSWORD, or asked for; one given here can be seen by others on
    /// this machine while the command runs
    #[arg(long, short, value_name = "NAME[:PASSWORD]")]
    pub(crate) user: Option<String>,
    /// The snapshotter to unpack into
    #[arg(long, env = "BERTH_SNAPSHOTTER", value_name = "NAME")]
    pub(crate) snapshotter: Option<String>,
    /// Fetch only; needs no root
    #[arg(long)]
    pub(crate) no_unpack: bool,
    /// Set a label on the image; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// Leave the pull to the daemon and print its id; it goes on through restarts of anything
    #[arg(long, short, conflicts_with_all = ["json", "quiet", "print_chainid"])]
    pub(crate) detach: bool,
    /// Its share of the work while others run: high has four times that of normal, normal four times that of low
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) priority: Priority,
    /// Fail if the pull takes longer: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<std::time::Duration>,
    /// Print the chain id of the unpacked image
    #[arg(long)]
    pub(crate) print_chainid: bool,
    /// Print each state as a JSON object on a line of its own
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the image's digest
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print only the names
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print JSON, an object on a line
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Images {
    /// List images
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show an image: record, manifests, config
    #[command(visible_alias = "i")]
    Inspect {
        reference: String,
        /// Also print the documents themselves
        #[arg(long)]
        content: bool,
    },
    /// Remove images; what only they used is collected, by the daemon in its time or at once without one
    #[command(visible_aliases = ["delete", "del", "remove"])]
    Rm {
        #[arg(required = true)]
        references: Vec<String>,
        /// Collect at once, and say what that gave back
        #[arg(long)]
        sync: bool,
    },
    /// Mount an image's file system on a directory, read-only
    #[command(after_help = "\
Examples:
  berth images mount alpine:3.20 /mnt         read-only; berth images unmount /mnt ends it
  berth images mount --rw alpine:3.20 /mnt    writable; what is written is kept in a snapshot named /mnt")]
    Mount {
        reference: String,
        target: PathBuf,
        /// Writable: changes go to a snapshot of their own
        #[arg(long)]
        rw: bool,
        /// For this platform
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<Platform>,
        #[arg(long, env = "BERTH_SNAPSHOTTER", value_name = "NAME")]
        snapshotter: Option<String>,
    },
    /// Unmount what `mount` mounted
    Unmount {
        target: PathBuf,
        /// Also remove what was written (a read-only mount leaves nothing anyway)
        #[arg(long)]
        rm: bool,
        #[arg(long, env = "BERTH_SNAPSHOTTER", value_name = "NAME")]
        snapshotter: Option<String>,
    },
    /// Pull an image (the same as `berth pull`)
    Pull(Pull),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Content {
    /// List blobs
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show a blob's size, times and labels
    Info { digest: String },
    /// Write a blob's bytes to standard output
    Get { digest: String },
    /// Remove blobs; their bytes go when no namespace and no lease names them
    #[command(visible_aliases = ["delete", "del", "remove"])]
    Rm {
        #[arg(required = true)]
        digests: Vec<String>,
    },
    /// List what is being fetched, or was interrupted
    Active(List),
    /// Collect what nothing refers to (the same as `berth gc`)
    Gc(Run),
    /// Look for damage: records without bytes, bytes without records, and with --deep bytes that are wrong
    Fsck(Fsck),
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Begin after this number; 0 is the beginning
    #[arg(long, value_name = "SEQUENCE")]
    pub(crate) since: Option<u64>,
    /// End with the newest event of now
    #[arg(long)]
    pub(crate) until_now: bool,
    /// First all records there are, then a line {"listed": NUMBER}, then the events after that number
    #[arg(long, conflicts_with_all = ["since", "until_now"])]
    pub(crate) with_state: bool,
    /// Only events of the namespace given by --namespace
    #[arg(long)]
    pub(crate) only_namespace: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn habits_from_ctr_work() {
        for line in [
            "berth i ls -q",
            "berth image list",
            "berth images delete a b",
            "berth -n k8s.io i pull --plain-http localhost:5000/a",
            "berth content delete sha256:00",
            "berth snapshot ls",
            "berth snapshots mounts /mnt key",
            "berth event",
            "berth events --with-state --only-namespace",
            "berth pull -u a:b --platform linux/arm64 --platform amd64 x --label a=b",
            "berth serve content --nats nats://h:1",
            "berth pull -d --priority low --timeout 90s x",
            "berth pulls ls --all --json",
            "berth pulls list",
            "berth pulls watch",
            "berth pulls attach 0a1b",
            "berth pulls cancel alpine:3.20 0a1b",
            "berth gc",
            "berth gc --dry-run --json",
            "berth gc why sha256:00",
            "berth content gc --dry-run",
            "berth content fsck --deep --repair",
            "berth leases create --id x --expires 90m --label a=b",
            "berth leases ls -v",
            "berth lease delete --sync x y",
            "berth leases resources x --add content/sha256:00",
            "berth system df --json",
            "berth i rm --sync a",
            "berth serve fetcher --nats nats://h:1 --health-socket /x",
            "berth top --once --json",
            "berth top --interval 500ms",
            "berth healthcheck --health-socket /x --timeout 2",
            "berth jobs ls --kind fetch --json",
            "berth job requeue --all",
            "berth jobs rm a b",
            "berth nats users --out d --nats-prefix berth.prod",
            "berth --nats tls://h --nats-ca ca.pem --nats-nkey-file gateway.nk pull x",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "berth",
            "berth pull",
            "berth pull --platform x y",
            "berth pull --label =b x",
            "berth pull --priority urgent x",
            "berth pull --timeout soon x",
            "berth pull --detach --quiet x",
            "berth pulls",
            "berth pulls cancel",
            "berth images rm",
            "berth gc why",
            "berth leases create --expires soon",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
