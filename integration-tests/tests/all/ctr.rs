//! Debian's `ctr`, containerd's own command line, against `berth serve`: it should not notice that this is no containerd.

/// Plays each scenario in the shapes that have a daemon.
macro_rules! with_a_daemon {
    ($($scenario:ident),* $(,)?) => {
        crate::in_shapes! { daemon Daemon: $($scenario)* }
        crate::in_shapes! { nats Nats: $($scenario)* }
    };
}

mod content;
mod events;
mod images;
mod names;
mod snapshots;
