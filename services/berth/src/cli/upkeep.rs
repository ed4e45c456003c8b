//! Commands that keep a store in order: leases, gc, fsck, df.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Json, List, label};

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List jobs that workers gave up on: their tries were used up, or their workers died of them
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: List,
        /// Only these: fetch, unpack
        #[arg(long)]
        kind: Option<String>,
    },
    /// Show one: what it was to do, and why it was given up
    #[command(visible_alias = "inspect")]
    Show {
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put jobs back into their queues
    #[command(after_help = "\
Examples:
  berth jobs requeue 0198c0de-...       when what it stumbled over is mended
  berth jobs requeue --all")]
    Requeue {
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All that there are now
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Forget jobs
    #[command(visible_aliases = ["delete", "del", "remove"])]
    Rm {
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All that there are now
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Leases {
    /// Make a lease, and print its id
    #[command(after_help = "\
Examples:
  berth leases create                            a random id, for the usual time (a day)
  berth leases create --id ci --expires 90m
  berth leases resources ci --add images/docker.io/library/alpine:latest")]
    Create {
        /// Its id; random if none is given
        #[arg(long)]
        id: Option<String>,
        /// How long it lasts: 24h, 90m [default: the setting lease_expiration, which is 24h]
        #[arg(long, short = 'x', value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        /// Set a label; may be repeated
        #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
    },
    /// List leases
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: List,
        /// Also what each of them names
        #[arg(long, short)]
        verbose: bool,
    },
    /// End leases
    #[command(visible_aliases = ["delete", "del", "remove"])]
    Rm {
        #[arg(required = true)]
        ids: Vec<String>,
        /// Collect at once, and say what that gave back
        #[arg(long)]
        sync: bool,
    },
    /// Show what a lease names, or change it
    Resources {
        id: String,
        /// Name this too: content/DIGEST, images/NAME, ingests/REF, snapshots/SNAPSHOTTER/KEY; may be repeated
        #[arg(long, value_name = "TYPE/ID")]
        add: Vec<String>,
        /// Name this no more; may be repeated
        #[arg(long, value_name = "TYPE/ID")]
        remove: Vec<String>,
        /// Print JSON, an object on a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  berth gc --dry-run               what would go, and how much that gives back
  berth gc                         collect now
  berth gc why sha256:4bcf...      the chain of references that keeps a blob or a snapshot
  berth gc why alpine:3.20         the same for an image"
)]
pub(crate) struct Gc {
    #[command(subcommand)]
    pub(crate) command: Option<GcCommand>,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print each thing, and then the sums, as a JSON object on a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GcCommand {
    /// Say what keeps a blob, a snapshot or an image, or that nothing does
    Why {
        /// A digest, a snapshot's key, or an image's name
        #[arg(value_name = "DIGEST|SNAPSHOT|IMAGE")]
        subject: String,
        /// Where to look for snapshots
        #[arg(long, env = "BERTH_SNAPSHOTTER", default_value = "overlayfs", value_name = "NAME")]
        snapshotter: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Fsck {
    /// Read everything: compute all digests, compare unpacked layers with their blobs
    #[arg(long)]
    pub(crate) deep: bool,
    /// Mend what can be mended: from what is here, or by fetching it again
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print each finding, and then the sums, as a JSON object on a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what takes the disk, and what a collection would give back
    Df {
        /// Also each image: what it alone uses, and what it shares
        #[arg(long, short)]
        verbose: bool,
        #[command(flatten)]
        json: Json,
    },
}
