//! `kill -9` of any service, and of all of them: the pull goes on, its callers wait on, nothing is fetched twice.

use anyhow::Result;
use berth_integration_tests::facts::Mounted;
use berth_testing::hostile::Auth;

use super::*;

with_a_daemon! {
    a_pull_outlives_all_services,
    who_is_told_to_stop_leaves_its_pulls_for_later,
    credentials_come_back_with_who_has_them,
}

/// A little may be fetched again: what was on its way.
const SLACK: u64 = 1 << 20;
/// More than all blobs but the large layer have together.
const SMALL: u64 = 64 << 10;

fn check_whole(stage: &Stage, image: &Image, reference: &str) -> Result<()> {
    assert_eq!(blobs(stage)?, digests(image));
    let mounted = Mounted::new(stage, reference, &[])?;
    assert_eq!(std::fs::metadata(mounted.path().join("big"))?.len(), LAYER as u64);
    Ok(())
}

/// Everything dies at once, and is started again.
fn restart_all(stage: &mut Stage) -> Result<()> {
    if stage.shape() == Shape::Daemon {
        stage.kill("daemon");
        return stage.serve("daemon", &[]);
    }
    for service in Stage::services() {
        stage.kill(service);
    }
    for service in Stage::services() {
        stage.start_service(service)?;
    }
    Ok(())
}

async fn a_pull_outlives_all_services(mut stage: Stage) -> Result<()> {
    let images = [image(20), image(21)];
    let (registry, references) = slow_registry(&images).await;
    let waiting = stage.spawn(["pull", "--plain-http", "--json", &references[0]])?;
    let id = stage.ok(["pull", "--plain-http", "--detach", &references[1]])?.trim().to_owned();
    let attached = stage.spawn(["pulls", "attach", "--json", &id])?;
    assert!(attached.wait_for_line(&id).contains(&references[1]));
    wait_until_under_way(&stage);
    restart_all(&mut stage)?;
    ends_well(attached)?;
    let ended = waiting.finish()?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ids: Vec<Value> = lines(&ended.stdout)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).map(|state| state["id"].clone()))
        .collect::<Result<_, _>>()?;
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "it is one pull all along: {ids:?}");
    let done = wait_for_state(&stage, &id, "done");
    assert_eq!(done["starts"], 2);
    assert_eq!(pulls(&stage)?.len(), 2, "no other pull was begun");
    let unique: u64 = images.iter().flat_map(|image| &image.layers).map(|layer| layer.size).sum();
    assert!(registry.sent() < unique + 2 * SLACK + LAYER as u64 / 2, "{} of {unique}", registry.sent());
    assert_eq!(blobs(&stage)?.len(), digests(&images[0]).len() + digests(&images[1]).len() - 1, "one layer is in both");
    let mounted = Mounted::new(&stage, &references[1], &[])?;
    assert_eq!(std::fs::metadata(mounted.path().join("big"))?.len(), LAYER as u64);
    Ok(())
}

/// SIGTERM, as a service manager gives it: in order and soon, and the same pull goes on afterwards.
async fn who_is_told_to_stop_leaves_its_pulls_for_later(mut stage: Stage) -> Result<()> {
    let image = image(24);
    let (registry, references) = slow_registry(std::slice::from_ref(&image)).await;
    let waiting = stage.spawn(["pull", "--plain-http", &references[0]])?;
    wait_until_under_way(&stage);
    let all = if stage.shape() == Shape::Daemon { vec!["daemon"] } else { vec!["gateway", "transfer"] };
    for name in &all {
        let begun = std::time::Instant::now();
        assert!(stage.server(name).stop()?.success(), "{name}: {}", stage.server(name).log());
        assert!(begun.elapsed() < Duration::from_secs(15), "{name} took {:?} to stop", begun.elapsed());
    }
    match stage.shape() {
        Shape::Daemon => stage.serve("daemon", &[])?,
        _ => all.iter().try_for_each(|name| stage.start_service(name))?,
    }
    ends_well(waiting)?;
    check_whole(&stage, &image, &references[0])?;
    let listed = only(&stage)?;
    assert_eq!((&listed["state"], &listed["starts"]), (&"done".into(), &2.into()), "{listed:#}");
    let unique: u64 = image.layers.iter().map(|layer| layer.size).sum();
    assert!(registry.sent() < unique + SLACK + LAYER as u64 / 2, "{} of {unique}", registry.sent());
    Ok(())
}

/// They are in no store: who waits gives them again, and who is not there cannot.
async fn credentials_come_back_with_who_has_them(stage: Stage) -> Result<()> {
    let shape = stage.shape();
    drop(stage);
    let mut berth = Berth::new()?;
    berth.configure("[pulls]\nabandoned_after = \"3s\"\n")?;
    let mut stage = Stage::start_on(shape, berth)?;
    let images = [image(22), image(23)];
    let (registry, references) = slow_registry(&images).await;
    registry.require(Auth::Basic("anna".into(), "s3cret-of-anna".into()));
    let pull = ["pull", "--plain-http", "--user", "anna:s3cret-of-anna"];
    let waiting = stage.spawn(pull.iter().copied().chain([references[0].as_str()]))?;
    let id = stage.ok(pull.iter().copied().chain(["--detach", &references[1]]))?.trim().to_owned();
    wait_until_under_way(&stage);
    restart_all(&mut stage)?;
    ends_well(waiting)?;
    let failed = wait_for_state(&stage, &id, "failed");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("never stored") && message.contains("--user"), "{message}");
    for part in ["metadata", "content"] {
        for file in files(&stage.root().join(part))? {
            let bytes = std::fs::read(&file)?;
            assert!(!bytes.windows(14).any(|part| part == b"s3cret-of-anna"), "the password is in {}", file.display());
        }
    }
    Ok(())
}

fn files(directory: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for child in std::fs::read_dir(&directory)? {
            let child = child?;
            if child.file_type()?.is_dir() { &mut waiting } else { &mut found }.push(child.path());
        }
    }
    Ok(found)
}

/// Each service dies once in the middle of a pull, and comes back.
async fn survives_the_death_of(service: &'static str, seed: u64) -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let image = image(seed);
    let (registry, references) = slow_registry(std::slice::from_ref(&image)).await;
    let waiting = stage.spawn(["pull", "--plain-http", &references[0]])?;
    wait_until_under_way(&stage);
    let (before, stored) = (registry.sent(), ingested_bytes(stage.root()));
    stage.kill(service);
    stage.start_service(service)?;
    wait_for("it to serve again", Duration::from_secs(30), || {
        let log = stage.server(service).log();
        let begun = log.lines().filter(|line| line.contains(" serving ") || line.contains(" listening ")).count();
        if begun > 1 { Seen::Yes(()) } else { Seen::NotYet(log) }
    });
    // What the registry sends meanwhile may have nobody to take it.
    let away = registry.sent() - before;
    ends_well(waiting)?;
    check_whole(&stage, &image, &references[0])?;
    let listed = only(&stage)?;
    assert_eq!((&listed["state"], registry.seen_at("/manifests/").is_empty()), (&"done".into(), false), "{listed:#}");
    let unique: u64 = image.layers.iter().map(|layer| layer.size).sum();
    // Only who waits for content stops taking what comes.
    let most = unique + SLACK + LAYER as u64 / 2 + if service == "content" { away } else { 0 };
    assert!(registry.sent() < most, "{} of {unique}, {away} while it was away", registry.sent());
    // What was stored is not asked for again, however long it took.
    for again in registry.seen_at(&image.layers[0].digest.to_string()).iter().skip(1) {
        let from =
            again.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
        let from: u64 = from.unwrap_or_default();
        assert!(from + SMALL >= stored, "{stored} were stored: {again:?}");
    }
    Ok(())
}

macro_rules! survives {
    ($($name:ident: $service:literal $seed:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<()> {
                survives_the_death_of($service, $seed).await
            }
        )*
    };
}

survives! {
    a_pull_survives_the_death_of_transfer: "transfer" 30;
    a_pull_survives_the_death_of_metadata: "metadata" 31;
    a_pull_survives_the_death_of_content: "content" 32;
    a_pull_survives_the_death_of_the_gateway: "gateway" 33;
    a_pull_survives_the_death_of_the_collector: "gc" 34;
}

/// A second transfer service takes over when it starts; when it dies, the first one leads again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_transfer_service_takes_over() -> Result<()> {
    let mut stage = Stage::start(Shape::Nats)?;
    let image = image(40);
    let (registry, references) = slow_registry(std::slice::from_ref(&image)).await;
    let waiting = stage.spawn(["pull", "--plain-http", &references[0]])?;
    wait_until_under_way(&stage);
    stage.start_another("transfer-2", "transfer")?;
    ends_well(waiting)?;
    let listed = only(&stage)?;
    assert_eq!((&listed["state"], &listed["starts"]), (&"done".into(), &2.into()), "{listed:#}");
    assert_eq!(registry.seen_at(&image.layers[0].digest.to_string()).len(), 2, "the second one went on with the rest");
    stage.kill("transfer-2");
    stage.ok(["pull", "--plain-http", &references[0]])?;
    Ok(())
}
