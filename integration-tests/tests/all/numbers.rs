//! What a daemon counts, as Prometheus reads it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use berth_integration_tests::image::push;
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    port::Port,
    shape::{Shape, Stage},
    wait::{Seen, wait_for},
};
use serde_json::Value;

/// The lines of a scrape: name with labels, and value.
async fn scrape(address: &str) -> Result<BTreeMap<String, f64>> {
    let text = reqwest::get(format!("http://{address}/metrics")).await?.error_for_status()?.text().await?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no value in {line:?}"))?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// A number that must be there.
#[track_caller]
fn number(all: &BTreeMap<String, f64>, name: &str) -> f64 {
    *all.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", all.keys().collect::<Vec<_>>()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_counts_what_it_does() -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new()
        .layer(Layer::new().random_file("a", 1 << 20, 1))
        .layer(Layer::new().file("b", b"x"))
        .build();
    let reference = push(&image, &registry, "app", "v1").await?;
    let port = Port::reserve()?;
    let address = format!("127.0.0.1:{}", port.number());
    let mut berth = Berth::new()?;
    berth.set("BERTH_HTTP", &address);
    let stage = Stage::start_on(Shape::Daemon, berth)?;
    stage.ok(["pull", "--plain-http", &reference])?;
    stage.ok(["pull", "--plain-http", &reference])?;
    stage.ok(["images", "rm", "--sync", &reference])?;

    let all = scrape(&address).await?;
    let bytes: u64 =
        [&image.target, &image.config, &image.layers[0], &image.layers[1]].iter().map(|blob| blob.size).sum();
    assert_eq!(number(&all, "berth_fetch_bytes_total{source=\"registry\"}"), bytes as f64);
    for stage in ["pull", "resolve", "fetch", "download", "verify", "publish", "unpack", "rebase", "flush", "gc"] {
        let count = number(&all, &format!("berth_stage_duration_seconds_count{{stage=\"{stage}\"}}"));
        assert!(count >= 1.0, "{stage}: {count}");
    }
    assert_eq!(number(&all, "berth_stage_duration_seconds_count{stage=\"unpack\"}"), 2.0);
    for stage in ["read", "inflate", "hash", "untar"] {
        assert_eq!(number(&all, &format!("berth_stage_busy_seconds_count{{stage=\"{stage}\"}}")), 2.0, "{stage}");
    }
    assert!(number(&all, "berth_call_duration_seconds_count{subject=\"metadata.v1.PutImage\"}") >= 1.0);
    assert!(number(&all, "berth_grpc_duration_seconds_count{method=\"Pull\",service=\"berth.v1.Transfer\"}") >= 2.0);
    assert!(number(&all, "berth_gc_removed_total{kind=\"snapshot\"}") >= 2.0, "{all:#?}");
    for store in ["metadata", "content"] {
        assert!(number(&all, &format!("berth_store_commit_duration_seconds_count{{store=\"{store}\"}}")) >= 1.0);
        assert_eq!(number(&all, &format!("berth_store_errors{{store=\"{store}\"}}")), 0.0);
    }
    assert!(number(&all, "process_resident_memory_bytes") > 1e6);
    assert!(number(&all, "process_open_fds") > 3.0);

    // What takes the disk is measured after a collection, and adds up as `system df` does.
    let measured = wait_for("the disk to be measured", Duration::from_secs(30), || {
        let now = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(scrape(&address)));
        match now {
            Ok(all) if all.contains_key("berth_disk_used_bytes{kind=\"blobs\"}") => Seen::Yes(all),
            other => Seen::NotYet(other.map(|all| all.len()).map_err(|error| error.to_string())),
        }
    });
    drop(measured);
    let shown: Value = serde_json::from_str(&stage.ok(["system", "df", "--json"])?)?;
    let after = scrape(&address).await?;
    let kinds =
        [("blobs", "content"), ("ingests", "ingests"), ("snapshots", "snapshots"), ("other", "databases-and-others")];
    let mut sum = 0.0;
    for (kind, row) in kinds {
        let used = number(&after, &format!("berth_disk_used_bytes{{kind=\"{kind}\"}}"));
        assert_eq!(Some(used), shown["disk"][row]["bytes"].as_f64(), "{kind}: {shown}");
        sum += used;
    }
    assert_eq!(Some(sum), shown["totalBytes"].as_f64(), "{shown}");
    assert!(number(&all, "berth_unpack_bytes_total") > f64::from(1 << 20));
    // Nobody can make the labels many: each has words of ours.
    assert!(all.len() < 3000, "{}", all.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_counts_its_own() -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let port = Port::reserve()?;
    let address = format!("127.0.0.1:{}", port.number());
    let url = stage.nats().url();
    stage.kill("fetcher-2");
    stage.kill("fetcher-1");
    stage.serve("fetcher-1", &["fetcher", "--nats", &url, "--http", &address])?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("b", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let all = scrape(&address).await?;
    assert!(number(&all, "berth_fetch_bytes_total{source=\"registry\"}") > 0.0);
    assert!(!all.keys().any(|name| name.starts_with("berth_store_")), "a fetcher has no store");
    let healthy = reqwest::get(format!("http://{address}/healthz")).await?;
    assert!(healthy.status().is_success());
    Ok(())
}

/// Who reads events and does not keep up is seen: at NATS by name, and at the gateway by the way it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_events_that_lag_are_counted() -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let url = stage.nats().url();
    let mut addresses = Vec::new();
    let mut ports = Vec::new();
    for service in ["metadata", "gateway"] {
        let port = Port::reserve()?;
        let address = format!("127.0.0.1:{}", port.number());
        stage.kill(service);
        stage.serve(service, &[service, "--nats", &url, "--http", &address])?;
        addresses.push(address);
        ports.push(port);
    }
    stage.wait_until_ready();
    // One that has had all.
    let follows = stage.spawn(["events", "--since", "0"])?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("b", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let _last = follows.wait_for_line("/pulls/done");
    // And a durable consumer that never asks for anything.
    let jetstream = async_nats::jetstream::new(async_nats::connect(&url).await?);
    let events = jetstream.get_stream("BERTH_EVENTS").await?;
    let scanner = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("scanner".to_owned()),
        ..async_nats::jetstream::consumer::pull::Config::default()
    };
    events.create_consumer(scanner).await?;
    let behind = |address: &str, home: &str, consumer: &str, wanted: fn(f64) -> bool| {
        let name = format!("berth_events_consumer_lag{{consumer=\"{consumer}\",home=\"{home}\"}}");
        wait_for(&name, Duration::from_secs(30), || {
            let now = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(scrape(address)));
            match now.map(|all| all.get(&name).copied()) {
                Ok(Some(lag)) if wanted(lag) => Seen::Yes(()),
                other => Seen::NotYet(other.map_err(|error| error.to_string())),
            }
        });
    };
    behind(&addresses[0], "nats", "scanner", |lag| lag >= 3.0);
    behind(&addresses[1], "grpc", "follow", |lag| lag == 0.0);
    Ok(())
}
