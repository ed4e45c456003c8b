//! What `deploy/observability` ships, against a live Prometheus that scraped a real daemon: every query of the dashboards and
//! of the alerts runs, and after a pull no panel is empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    time::Duration,
};

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

/// The dashboards, each by its file.
fn dashboards() -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(shipped("dashboards"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
        let text = std::fs::read_to_string(&path)?;
        all.insert(name, serde_json::from_str(&text).with_context(|| path.display().to_string())?);
    }
    Ok(all)
}

fn panels(dashboard: &Value) -> Result<&Vec<Value>> {
    dashboard["panels"].as_array().context("no panels")
}

/// The queries of a dashboard to Prometheus, as Grafana would send them.
fn queries(dashboard: &Value) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for panel in panels(dashboard)? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            if target["datasource"]["type"] == "jaeger" {
                continue;
            }
            let expression = target["expr"].as_str().context("a target without expr")?;
            let expression =
                expression.replace("$__rate_interval", "30s").replace("$__range", "1m").replace("$instance", ".*");
            let panel = panel["title"].as_str().unwrap_or_default();
            all.push((format!("{}, {panel}", dashboard["title"]), expression));
        }
    }
    Ok(all)
}

/// How the dashboards ask for traces of pulls: by the service and the name of a span.
pub(crate) fn searches_for_traces() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for dashboard in dashboards()?.values() {
        let variables = dashboard["templating"]["list"].as_array().context("no variables")?;
        for target in panels(dashboard)?.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
            if target["queryType"] != "search" {
                continue;
            }
            let (service, operation) = (target["service"].as_str(), target["operation"].as_str());
            let name = service.and_then(|name| name.strip_prefix('$')).context("a search without a service")?;
            let variable = variables.iter().find(|variable| variable["name"] == name).context("no such variable")?;
            let service = variable["current"]["value"].as_str().context("a variable without a value")?;
            all.push((service.to_owned(), operation.context("a search without a name")?.to_owned()));
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

    let mut queries = Vec::new();
    for dashboard in dashboards()?.values() {
        queries.extend(self::queries(dashboard)?);
    }
    assert!(queries.len() > 30, "{queries:?}");
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

/// Grafana puts each dashboard where it belongs, finds what it names, and shows no panel on top of another.
#[test]
fn dashboards_are_whole() -> Result<()> {
    let all = dashboards()?;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["pull.json", "pulls.json", "services.json", "storage.json"]);
    let names: BTreeSet<&str> = all.values().filter_map(|dashboard| dashboard["uid"].as_str()).collect();
    assert_eq!(names.len(), all.len(), "each has a name of its own: {names:?}");
    for (file, dashboard) in &all {
        assert_eq!(dashboard["tags"], serde_json::json!(["berth"]), "{file}: by this they find one another");
        let text = dashboard.to_string();
        for link in text.split("/d/").skip(1) {
            let to = link.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').next();
            assert!(to.is_some_and(|to| names.contains(to)), "{file} leads to {to:?}");
        }
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in panels(dashboard)? {
            let title = panel["title"].as_str().filter(|title| !title.is_empty()).context("a title")?;
            assert!(ids.insert(panel["id"].as_u64()), "{file}: {title} has another one's number");
            assert!(panel["type"] == "text" || panel["description"].is_string(), "{file}: {title} says what it shows");
            let side = |name: &str| panel["gridPos"][name].as_u64().with_context(|| format!("{file}: {title}: {name}"));
            let (x, y, width, height) = (side("x")?, side("y")?, side("w")?, side("h")?);
            assert!(x + width <= 24, "{file}: {title} is beside the screen");
            for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{file}: {title} covers another panel at {place:?}");
            }
        }
    }
    Ok(())
}

/// Each alert comes when it should, and only then.
#[test]
fn alerts_are_held_to_their_tests() -> Result<()> {
    for (what, file) in [("config", "prometheus.yml"), ("config", "prometheus.compose.yml"), ("rules", "alerts.yml")] {
        let checked = Command::new("promtool").args(["check", what]).arg(shipped(file)).output()?;
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let tested = Command::new("promtool").args(["test", "rules"]).arg(shipped("alerts.test.yml")).output()?;
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    Ok(())
}
