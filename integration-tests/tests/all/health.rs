//! How a service says that it is well, and that it ends in order when it is told to.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_integration_tests::ctr;
use berth_testing::{
    running::Running,
    shape::{Shape, Stage},
    wait::wait_until,
};
use nix::sys::signal::Signal;

/// Exit code and words of `berth healthcheck`.
fn asked(stage: &Stage, socket: &str) -> (i32, String) {
    let done = stage.run(["healthcheck", "--health-socket", socket]).unwrap();
    (done.code, done.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_well_while_it_has_its_bus() -> Result<()> {
    let mut stage = Stage::nats_not_started()?;
    stage.nats().restart()?;
    let url = stage.nats().url();
    let socket = stage.scratch().join("health.sock").display().to_string();
    stage.serve("content", &["content", "--nats", &url, "--health-socket", &socket])?;
    let comes_to = |stage: &Stage, code: i32| {
        wait_until(
            &format!("the answer {code}"),
            Duration::from_secs(60),
            || asked(stage, &socket).0 == code,
            || asked(stage, &socket),
        );
    };
    comes_to(&stage, 0);
    let (_, said) = asked(&stage, &socket);
    assert!(said.contains("content: it serves"), "{said}");
    stage.nats().stop();
    comes_to(&stage, 1);
    stage.nats().restart()?;
    comes_to(&stage, 0);
    stage.kill("content");
    let (code, said) = asked(&stage, &socket);
    assert!(code == 1 && said.contains("health.sock"), "{said}");
    Ok(())
}

/// The first process of a container gets no signal that it does not listen to: it listens from the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_its_bus_can_be_stopped() -> Result<()> {
    let mut stage = Stage::nats_not_started()?;
    let url = stage.nats().url();
    let socket = stage.scratch().join("health.sock").display().to_string();
    let waiting = Running::start(stage.command(["serve", "transfer", "--nats", &url, "--health-socket", &socket]))?;
    wait_until(
        "an answer",
        Duration::from_secs(60),
        || asked(&stage, &socket).1.contains("waits for the NATS server"),
        || asked(&stage, &socket),
    );
    waiting.signal(Signal::SIGTERM)?;
    let ended = waiting.finish()?;
    assert_eq!(ended.code, 0, "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_asked_on_its_own_socket() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    assert!(stage.ok(["healthcheck"])?.contains("it serves"));
    stage.kill("daemon");
    let done = stage.run(["healthcheck", "--json"])?;
    assert!(done.code == 1 && done.stdout.contains("nobody listens"), "{done:?}");
    // Who insists on a daemon gets no other.
    let settings = stage.scratch().join("config.toml");
    std::fs::write(&settings, "[pulls]\nwait_for_daemon = \"10ms\"\n")?;
    let config = settings.display().to_string();
    let refused = stage.fails(["--daemon-only", "--config", &config, "images", "ls"])?;
    assert!(refused.contains("no daemon listens"), "{refused}");
    Ok(())
}

/// Whoever waits for news, in each way there is, and has had some.
fn readers(stage: &Stage) -> Result<Vec<Running>> {
    let foreign = Running::start(ctr::command(stage, ["events"]))?;
    let mut made = 0;
    // It is told what happens from some moment on.
    wait_until(
        "an event for ctr",
        Duration::from_secs(60),
        || {
            made += 1;
            ctr::ok(stage, ["namespaces", "create", &format!("n{made}")]).is_ok()
                && foreign.output().contains("/create")
        },
        || foreign.output(),
    );
    let mut readers = vec![foreign];
    for (args, word) in [
        (["events", "--since", "0"].as_slice(), "/create"),
        (&["events", "--with-state"], "listed"),
        (&["pulls", "watch", "--json"], "{"),
    ] {
        let reader = stage.spawn(args)?;
        let _news = reader.wait_for_line(word);
        readers.push(reader);
    }
    Ok(readers)
}

fn stops_soon(stage: &mut Stage, name: &str) -> Result<()> {
    let begun = Instant::now();
    let ended = stage.server(name).stop()?;
    let log = stage.server(name).log();
    ensure!(ended.success() && begun.elapsed() < Duration::from_secs(5), "{name}: {:?}, {log}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_news_does_not_keep_a_daemon_from_stopping() -> Result<()> {
    let mut stage = Stage::start(Shape::Daemon)?;
    let readers = readers(&stage)?;
    stops_soon(&mut stage, "daemon")?;
    for reader in readers {
        let ended = reader.finish()?;
        assert!(ended.code > 0, "it was cut off, and says so: {ended:?}");
    }
    Ok(())
}

/// Metadata always has such a call: gc waits for something to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_news_does_not_keep_services_from_stopping() -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let _readers = readers(&stage)?;
    for name in ["metadata", "transfer", "gc", "gateway"] {
        stops_soon(&mut stage, name)?;
    }
    Ok(())
}
