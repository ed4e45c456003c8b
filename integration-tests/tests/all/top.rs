//! `berth top`: pulls, queues and workers, of one process and of many.

use std::time::Duration;

use anyhow::{Context as _, Result};
use berth_testing::{
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, ImageBuilder, Layer},
    shape::{Shape, Stage},
    wait::wait_until,
};
use serde_json::Value;

fn look(stage: &Stage) -> Result<Value> {
    serde_json::from_str(&stage.ok(["top", "--once", "--json"])?).context("no JSON")
}

fn workers(seen: &Value, kind: &str) -> Vec<(u64, u64)> {
    let queues = seen["queues"].as_array().into_iter().flatten();
    let of = queues
        .filter(|queue| queue["kind"] == kind)
        .flat_map(|queue| queue["workers"].as_array().into_iter().flatten());
    of.map(|worker| (worker["busy"].as_u64().unwrap(), worker["places"].as_u64().unwrap())).collect()
}

async fn shows(stage: Stage, replicas: usize) -> Result<()> {
    let seen = look(&stage)?;
    for kind in ["fetch", "unpack"] {
        let workers = workers(&seen, kind);
        assert!(
            workers.len() == replicas && workers.iter().all(|(busy, places)| *busy == 0 && *places > 0),
            "{seen:#}"
        );
    }
    // A pull that takes as long as it is looked at.
    let slowly = Fault::Trickle(16 << 10, Duration::from_millis(20));
    let registry = HostileRegistry::start(Faults::none().always("/blobs/", slowly)).await;
    let image = ImageBuilder::new().layer_as(Compression::None, Layer::new().random_file("file", 64 << 20, 1)).build();
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    let pull = stage.ok(["pull", "--plain-http", "--detach", &reference])?;
    let mut last = Value::Null;
    wait_until(
        "a busy fetcher",
        Duration::from_secs(60),
        || {
            last = look(&stage).unwrap();
            workers(&last, "fetch").iter().any(|(busy, _)| *busy > 0) && last["queues"][0]["running"].as_u64() > Some(0)
        },
        || (),
    );
    assert_eq!(last["pulls"][0]["reference"], Value::from(reference.as_str()), "{last:#}");
    assert_eq!(last["pulls"][0]["state"], "pulling", "{last:#}");
    let text = stage.ok(["top", "--once"])?;
    for part in ["WAITING", "WORKER", "fetch", "unpack", &reference] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    stage.ok(["pulls", "cancel", pull.trim()])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_of_a_daemon() -> Result<()> {
    shows(Stage::start(Shape::Daemon)?, 1).await
}

/// Secured: what it takes to look is permitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_of_services_over_nats() -> Result<()> {
    shows(Stage::secured()?, 2).await
}
