//! What only separate processes can do: start in any order, die alone, and be listened to. With the NATS server as it is
//! shipped: encrypted, each service a user of its own.

use std::time::Duration;

use anyhow::Result;
use berth_integration_tests::{
    facts::{Mounted, blobs},
    image::{digests, push},
};
use berth_testing::{
    docker_registry::DockerRegistry,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer},
    nats_cluster::NatsCluster,
    running::Running,
    shape::{Shape, Stage},
    wait::wait_until,
};
use serde_json::Value;

use crate::store::{blob_files, ingested_bytes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_start_in_any_order() -> Result<()> {
    let mut stage = Stage::secured_not_started()?;
    // Those that need others first, and the server last.
    for service in Stage::services().into_iter().rev() {
        stage.start_service(service)?;
    }
    stage.nats().restart()?;
    stage.wait_until_ready();
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(blobs(&stage)?, digests(&image));
    Ok(())
}

pub(crate) fn image_of_many_layers() -> Image {
    image_of_random_layers(0)
}

fn image_of_random_layers(first: u64) -> Image {
    (first..first + 6)
        .fold(ImageBuilder::new(), |image, n| {
            image.layer_as(Compression::None, Layer::new().random_file(&format!("file-{n}"), 4 << 20, n))
        })
        .build()
}

/// A pull in the middle: about 3 MB a second for each of its layers.
pub(crate) async fn a_pull_under_way(stage: &Stage, image: &Image) -> Result<(HostileRegistry, Running, String)> {
    let slowly = Fault::Trickle(32 << 10, Duration::from_millis(10));
    let registry = HostileRegistry::start(Faults::none().always("/blobs/", slowly)).await;
    registry.add_image("app", "v1", image);
    let reference = registry.reference("app", "v1");
    let mut pull = stage.spawn(["pull", "--plain-http", &reference])?;
    wait_until(
        "the layers to arrive in part",
        Duration::from_secs(60),
        || ingested_bytes(stage.root()) > 1 << 20,
        || (ingested_bytes(stage.root()), pull.has_ended(), pull.output()),
    );
    Ok((registry, pull, reference))
}

/// Kills one of two workers, and the pull ends well; the other was not disturbed.
async fn loses(worker: &str) -> Result<()> {
    let mut stage = Stage::secured()?;
    let image = image_of_many_layers();
    let (_registry, pull, reference) = a_pull_under_way(&stage, &image).await?;
    stage.kill(worker);
    let finished = pull.finish()?;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(blobs(&stage)?, digests(&image));
    let mounted = Mounted::new(&stage, &reference, &[])?;
    for n in 0..6_u64 {
        let read = std::fs::read(mounted.path().join(format!("file-{n}")))?;
        assert!(read == berth_testing::image::random_bytes(4 << 20, n), "file-{n}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_the_loss_of_a_fetcher() -> Result<()> {
    loses("fetcher-1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_the_loss_of_the_other_fetcher() -> Result<()> {
    loses("fetcher-2").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_the_loss_of_an_unpacker() -> Result<()> {
    loses("unpacker-1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_the_loss_of_the_other_unpacker() -> Result<()> {
    loses("unpacker-2").await
}

/// Both fetchers go, and new ones come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_waits_for_a_new_fetcher() -> Result<()> {
    let mut stage = Stage::secured()?;
    let image = image_of_many_layers();
    let (_registry, pull, _) = a_pull_under_way(&stage, &image).await?;
    stage.kill("fetcher-1");
    stage.kill("fetcher-2");
    stage.start_service("fetcher-1")?;
    let finished = pull.finish()?;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(blobs(&stage)?, digests(&image));
    Ok(())
}

/// `kill -9` of the server, and it comes back: the pull goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_a_restart_of_the_server() -> Result<()> {
    let mut stage = Stage::secured()?;
    let image = image_of_many_layers();
    let (_registry, pull, _) = a_pull_under_way(&stage, &image).await?;
    stage.nats().restart()?;
    let finished = pull.finish()?;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(blobs(&stage)?, digests(&image));
    Ok(())
}

/// Streams are on all three servers of a cluster: whichever is killed in the middle of a pull, the pull ends well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_the_loss_of_any_server_of_three() -> Result<()> {
    let mut cluster = NatsCluster::secured()?;
    let mut stage = Stage::on_cluster(&cluster)?;
    stage.start_services()?;
    let mut pulled = Vec::new();
    for number in cluster.numbers() {
        let image = image_of_random_layers(number as u64 * 10);
        let (registry, pull, _) = a_pull_under_way(&stage, &image).await?;
        cluster.kill(number);
        let finished = pull.finish()?;
        assert_eq!(finished.code, 0, "without server {number}: {finished:?}");
        // Nothing was fetched twice: each blob was asked for once.
        let asked = registry.seen().iter().filter(|seen| seen.path.contains("/blobs/") && seen.method == "GET").count();
        assert_eq!(asked, digests(&image).len() - 1, "without server {number}");
        cluster.revive(number)?;
        pulled.extend(digests(&image));
        pulled.sort();
        pulled.dedup();
        assert_eq!(blobs(&stage)?, pulled);
    }
    Ok(())
}

/// A fetch that was given up stands in the list, and put back it is done, although its pull is long over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_given_up_is_shown_and_put_back() -> Result<()> {
    for stage in [Stage::secured()?, Stage::start(Shape::Daemon)?] {
        let image = image_of_many_layers();
        let registry =
            HostileRegistry::start(Faults::none().always("/blobs/", Fault::Status(503, "{}".to_owned()))).await;
        registry.add_image("app", "v1", &image);
        let reference = registry.reference("app", "v1");
        stage.fails(["pull", "--no-unpack", "--plain-http", &reference])?;
        let jobs = || stage.ok(["jobs", "ls", "--json"]).unwrap_or_default();
        wait_until("a dead letter", Duration::from_secs(30), || !jobs().is_empty(), jobs);
        let listed = jobs();
        let first: Value = serde_json::from_str(listed.lines().next().unwrap_or_default())?;
        assert_eq!((&first["kind"], &first["code"]), (&Value::from("fetch"), &Value::from("unavailable")), "{first}");
        let id = first["id"].as_str().unwrap_or_default();
        let whole = stage.json(["jobs", "show", "--json", id])?;
        assert_eq!(whole["job"]["reference"], Value::from(reference.as_str()), "{whole:#}");
        assert_eq!(whole["job"]["descriptor"]["digest"], first["key"], "{whole:#}");
        assert!(stage.ok(["jobs", "ls"])?.contains("REASON"));

        registry.behave();
        stage.ok(["jobs", "requeue", id])?;
        let digest = first["key"].as_str().unwrap_or_default();
        let hex = digest.trim_start_matches("sha256:");
        let fetched = || blob_files(stage.root()).is_ok_and(|files| files.iter().any(|file| file.ends_with(hex)));
        wait_until("the blob to be fetched after all", Duration::from_secs(30), fetched, jobs);
        assert!(!jobs().contains(id), "{}", jobs());
        stage.ok(["jobs", "rm", "--all"])?;
        assert_eq!(jobs(), "");
        assert!(stage.fails(["jobs", "requeue", id])?.contains("no dead letter"));
    }
    Ok(())
}

/// With nothing but a connection and `SUB`, as `nats sub` does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_client_can_listen_to_events() -> Result<()> {
    let mut stage = Stage::nats_not_started()?;
    stage.nats().restart()?;
    stage.start_services()?;
    let listener = stage.nats().listen("berth.events.>")?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let mut subjects = Vec::new();
    let created = loop {
        let heard = listener.next(Duration::from_secs(30))?;
        subjects.push(heard.subject.clone());
        if heard.subject.ends_with(".images.create") {
            break heard;
        }
    };
    let body: Value = serde_json::from_slice(&created.body)?;
    assert!(body.to_string().contains(&reference), "{body:#}");
    assert!(created.subject.contains(".default."), "the namespace is in the subject: {}", created.subject);
    assert!(created.headers.to_lowercase().contains("nats-msg-id"), "{}", created.headers);
    let count = |end: &str| subjects.iter().filter(|subject| subject.ends_with(end)).count();
    assert_eq!(count(".content.create"), 3, "{subjects:?}");
    assert_eq!(count(".snapshot.prepare"), 1, "{subjects:?}");
    assert_eq!(count(".snapshot.commit"), 1, "{subjects:?}");
    Ok(())
}

/// Without a gateway: the command line joins the bus itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_can_join_the_bus() -> Result<()> {
    let mut stage = Stage::secured()?;
    stage.kill("gateway");
    let url = stage.nats().url();
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["--nats", &url, "pull", "--plain-http", &reference])?;
    let listed = stage.ok(["--nats", &url, "images", "ls", "--quiet"])?;
    assert_eq!(listed.trim(), reference);
    Ok(())
}

/// What is wrong is said at once, by name: the key of another service, no key, a CA that did not sign.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_who_he_says_is_told() -> Result<()> {
    let mut stage = Stage::secured_not_started()?;
    stage.nats().expect_refusals();
    stage.nats().restart()?;
    let (url, fetcher, gateway) = (stage.nats().url(), stage.nats().nkey("fetcher"), stage.nats().nkey("gateway"));
    let fetcher = fetcher.display().to_string();
    let said = stage.fails(["--nats", &url, "--nats-nkey-file", &fetcher, "images", "ls"])?;
    assert!(said.contains("not permitted on subject berth.inbox.gateway."), "{said}");
    let said = stage.fails(["serve", "content", "--nats", &url, "--nats-nkey-file", &fetcher])?;
    assert!(said.contains("this user is not the one of `content`"), "{said}");
    let said = stage.fails(["--nats", &url, "--nats-ca", &gateway.display().to_string(), "images", "ls"])?;
    assert!(said.contains("holds no certificate"), "{said}");
    Ok(())
}

/// Two deployments below prefixes of their own: neither sees the other's images, jobs or events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn berths_share_a_server_and_see_nothing_of_one_another() -> Result<()> {
    let nats = berth_testing::nats_server::NatsServer::start()?;
    let listener = nats.listen("*.prod.node-2.events.>")?;
    let mut one = Stage::beside_others(&nats.url(), "berth.prod.node-1")?;
    let mut two = Stage::beside_others(&nats.url(), "berth.prod.node-2")?;
    one.start_services()?;
    two.start_services()?;
    let registry = DockerRegistry::start()?;
    for (stage, name) in [(&one, "one"), (&two, "two")] {
        let image = ImageBuilder::new().layer(Layer::new().file(name, b"x")).build();
        let reference = push(&image, &registry, name, "v1").await?;
        stage.ok(["pull", "--plain-http", &reference])?;
        assert_eq!(stage.ok(["images", "ls", "--quiet"])?.trim(), reference);
        assert_eq!(blobs(stage)?, digests(&image));
    }
    let first = listener.next(Duration::from_secs(30))?;
    assert!(!String::from_utf8_lossy(&first.body).contains("/one"), "{first:?}");
    Ok(())
}
