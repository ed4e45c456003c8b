//! Debian's `ctr`, containerd's own command line, against `berth serve`: it should not notice that this is no containerd.

/// Plays each scenario in the shapes that have a daemon.
macro_rules! with_a_daemon {
    ($($scenario:ident),* $(,)?) => {
        crate::ctr::in_daemons! { daemon Daemon: $($scenario)* }
        crate::ctr::in_daemons! { nats Nats: $($scenario)* }
    };
}

/// Plays scenarios in one shape. What `ctr` writes by hand is kept by nothing: no collection may come between two commands.
macro_rules! in_daemons {
    ($module:ident $shape:ident: $($scenario:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    use berth_testing::{berth::Berth, shape::{Shape, Stage}};
                    let berth = Berth::new()?.collecting_only_on_demand()?;
                    super::$scenario(Stage::start_on(Shape::$shape, berth)?).await
                }
            )*
        }
    };
}

pub(crate) use in_daemons;

mod content;
mod events;
mod images;
mod names;
mod snapshots;
