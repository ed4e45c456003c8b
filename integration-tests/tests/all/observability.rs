//! What `deploy/observability` ships, against a live Prometheus that scraped a real daemon: every query of the dashboard and
//! of the alerts runs, and after a pull no panel is empty.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use berth_integration_tests::image::push;
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    port::Port,
    process::Server,
    shape::{Shape, Stage},
};
use serde_json::Value;

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability").join(name)
}

/// The queries of a dashboard, as Grafana would send them.
fn queries(dashboard: &Value) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("a target without expr")?;
            let expression =
                expression.replace("$__rate_interval", "30s").replace("$__range", "1m").replace("$instance", ".*");
            all.push((panel["title"].as_str().unwrap_or_default().to_owned(), expression));
        }
    }
    Ok(all)
}

async fn ask(prometheus: &str, query: &str) -> Result<Vec<Value>> {
    let address = format!("http://{prometheus}/api/v1/query");
    let url = reqwest::Url::parse_with_params(&address, &[("query", query)])?;
    let answer: Value = reqwest::get(url).await?.json().await?;
    if answer["status"] != "success" {
        bail!("{query}: {answer}");
    }
    Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
}

/// Whether there is something, and no number is none.
fn shows(result: &[Value]) -> bool {
    !result.is_empty() && result.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_panel_is_empty_after_a_pull() -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (ours, theirs) = (Port::reserve()?, Port::reserve()?);
    let (daemon, prometheus) = (format!("127.0.0.1:{}", ours.number()), format!("127.0.0.1:{}", theirs.number()));
    let mut berth = Berth::new()?;
    berth.set("BERTH_HTTP", &daemon);
    let stage = Stage::start_on(Shape::Daemon, berth)?;

    let config = std::fs::read_to_string(shipped("prometheus.yml"))?
        .replace("127.0.0.1:8719", &daemon)
        .replace("15s", "1s")
        .replace("alerts.yml", &shipped("alerts.yml").display().to_string());
    assert!(config.contains(&daemon), "{config}");
    let file = stage.scratch().join("prometheus.yml");
    std::fs::write(&file, config)?;
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", stage.scratch().join("tsdb").display()))
        .arg(format!("--web.listen-address={prometheus}"));
    let mut server = Server::start("prometheus", &command, &stage.scratch().join("prometheus.log"))?;
    server.wait_for_port(theirs.number())?;

    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(shipped("dashboard.json"))?)?;
    let queries = queries(&dashboard)?;
    assert!(queries.len() > 15, "{queries:?}");
    let begun = std::time::Instant::now();
    let mut round = 0_u64;
    loop {
        // Rates need something that grows while it is looked at.
        let image = ImageBuilder::new().layer(Layer::new().random_file("a", 100_000, round)).build();
        let reference = push(&image, &registry, "app", &format!("v{round}")).await?;
        stage.ok(["pull", "--plain-http", "--quiet", &reference])?;
        stage.ok(["images", "rm", "--sync", &reference])?;
        round += 1;
        let mut empty = Vec::new();
        for (panel, query) in &queries {
            if !shows(&ask(&prometheus, query).await?) {
                empty.push(format!("{panel}: {query}"));
            }
        }
        if empty.is_empty() {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "empty panels after {round} pulls: {empty:#?}\n{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    // The rules were loaded, each was played without an error, and nothing is wrong here.
    let rules: Value = reqwest::get(format!("http://{prometheus}/api/v1/rules")).await?.json().await?;
    let rules = rules["data"]["groups"][0]["rules"].as_array().context("no rules")?.clone();
    assert!(rules.len() >= 7 && rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
    assert!(rules.iter().all(|rule| rule["state"] != "firing"), "{rules:#?}");
    assert!(rules.iter().all(|rule| rule["annotations"]["runbook"].is_string()), "each says what to do");
    Ok(())
}

/// Each alert comes when it should, and only then.
#[test]
fn alerts_are_held_to_their_tests() -> Result<()> {
    for (what, file) in [("config", "prometheus.yml"), ("rules", "alerts.yml")] {
        let checked = Command::new("promtool").args(["check", what]).arg(shipped(file)).output()?;
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let tested = Command::new("promtool").args(["test", "rules"]).arg(shipped("alerts.test.yml")).output()?;
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    Ok(())
}
