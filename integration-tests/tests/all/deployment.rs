//! What `deploy/compose.yaml` promises, held against the file and those it mounts. That it runs, `deploy/try` shows; the
//! programs of the profile `observability` that cannot be had where tests run are at least configured without a loose end.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_yaml_ng::Value;

/// Berth's own.
const SERVICES: [&str; 7] = ["content", "fetcher", "gateway", "gc", "metadata", "transfer", "unpacker"];
/// Those of the profile.
const OBSERVERS: [&str; 4] = ["collector", "grafana", "jaeger", "prometheus"];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> Result<Value> {
    let text = std::fs::read_to_string(deploy(name))?;
    let mut document: Value = serde_yaml_ng::from_str(&text).with_context(|| name.to_owned())?;
    document.apply_merge()?;
    Ok(document)
}

fn names(value: &Value) -> BTreeSet<String> {
    let of_map = value.as_mapping().into_iter().flat_map(|map| map.keys());
    let of_list = value.as_sequence().into_iter().flatten();
    of_map.chain(of_list).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// What a variable with a default stands for when nobody sets it.
fn unset(text: &str) -> &str {
    text.strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|rest| rest.split_once(":-"))
        .map_or(text, |(_, usual)| usual)
}

#[test]
fn every_container_is_locked_in() -> Result<()> {
    let compose = read("compose.yaml")?;
    let services = compose["services"].as_mapping().context("no services")?;
    for (name, service) in services {
        let name = name.as_str().context("a name")?;
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(names(&service["cap_drop"]), set(["ALL"]), "{name}");
        assert!(names(&service["security_opt"]).contains("no-new-privileges:true"), "{name}");
        for bound in ["mem_limit", "pids_limit", "logging", "restart"] {
            assert!(!service[bound].is_null(), "{name} has no {bound}");
        }
        let image = unset(service["image"].as_str().context("an image")?);
        let (_, version) = image.rsplit_once(':').context("a version")?;
        assert!(version != "latest" || SERVICES.contains(&name), "{name}: {image} is another one tomorrow");
        for port in names(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to the network");
        }
        for volume in names(&service["volumes"]).iter().filter_map(|volume| volume.strip_prefix("./")) {
            let file = volume.split(':').next().unwrap_or_default();
            assert!(deploy(file).exists(), "{name}: deploy/{file} is not there");
            assert!(volume.ends_with(":ro"), "{name}: {volume} can be written");
        }
    }
    Ok(())
}

#[test]
fn the_profile_is_off_unless_wanted() -> Result<()> {
    let compose = read("compose.yaml")?;
    for (name, service) in compose["services"].as_mapping().context("no services")? {
        let name = name.as_str().context("a name")?;
        let wanted = if OBSERVERS.contains(&name) { set(["observability"]) } else { BTreeSet::new() };
        assert_eq!(names(&service["profiles"]), wanted, "{name}");
        // Only the fetchers reach the outside, and those that show something, whom nobody inside needs.
        let outside =
            names(&service["networks"]).iter().any(|network| compose["networks"][network]["internal"] != true);
        assert_eq!(outside, ["fetcher", "grafana", "jaeger", "prometheus"].contains(&name), "{name}");
    }
    for service in SERVICES {
        let environment = &compose["services"][service]["environment"];
        assert_eq!(unset(environment["OTEL_TRACES_EXPORTER"].as_str().context("a switch")?), "none", "{service}");
    }
    Ok(())
}

/// The collector and Jaeger are two assemblies of the same parts.
#[test]
fn pipelines_have_no_loose_end() -> Result<()> {
    for file in ["observability/collector.yml", "observability/jaeger.yml"] {
        let config = read(file)?;
        let pipelines = config["service"]["pipelines"].as_mapping().context("no pipelines")?;
        let mut used = BTreeSet::new();
        for kind in ["receivers", "processors", "exporters"] {
            let named: BTreeSet<String> = pipelines.values().flat_map(|pipeline| names(&pipeline[kind])).collect();
            assert_eq!(named, names(&config[kind]), "{file}: {kind}");
            used.extend(named);
        }
        assert!(used.contains("otlp") && used.contains("batch"), "{file}: {used:?}");
        assert_eq!(names(&config["service"]["extensions"]), names(&config["extensions"]), "{file}");
    }
    let (collector, jaeger) = (read("observability/collector.yml")?, read("observability/jaeger.yml")?);
    let store = jaeger["exporters"]["jaeger_storage_exporter"]["trace_storage"].as_str().context("a store")?;
    assert_eq!(names(&jaeger["extensions"]["jaeger_storage"]["backends"]), set([store]));
    assert_eq!(jaeger["extensions"]["jaeger_query"]["storage"]["traces"], store);

    let compose = read("compose.yaml")?;
    let port = |endpoint: &Value| endpoint.as_str().and_then(|text| text.rsplit(':').next()).map(str::to_owned);
    let sent = &compose["services"]["fetcher"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"];
    assert!(sent.as_str().is_some_and(|sent| sent.starts_with("http://collector:")), "{sent:?}");
    assert_eq!(port(sent), port(&collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]));
    let handed = &collector["exporters"]["otlp/jaeger"]["endpoint"];
    assert!(handed.as_str().is_some_and(|handed| handed.starts_with("jaeger:")), "{handed:?}");
    assert_eq!(port(handed), port(&jaeger["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]));
    Ok(())
}

#[test]
fn what_looks_on_finds_what_it_looks_at() -> Result<()> {
    let prometheus = read("observability/prometheus.compose.yml")?;
    let jobs = prometheus["scrape_configs"].as_sequence().context("no jobs")?;
    assert_eq!(names(&jobs[0]["dns_sd_configs"][0]["names"]), set(SERVICES));
    let compose = read("compose.yaml")?;
    let listens = compose["services"]["content"]["environment"]["BERTH_HTTP"].as_str().context("an address")?;
    let port = jobs[0]["dns_sd_configs"][0]["port"].as_u64().context("a port")?;
    assert_eq!(listens, format!("0.0.0.0:{port}"));
    let sources = read("observability/grafana/datasources.yml")?;
    for source in sources["datasources"].as_sequence().context("no sources")? {
        let url = source["url"].as_str().context("an address")?;
        let (host, _) = url.trim_start_matches("http://").split_once(':').context("a port")?;
        assert!(OBSERVERS.contains(&host), "{url}");
        assert_eq!(source["type"], host, "dashboards choose by the kind");
    }
    let grafana = &compose["services"]["grafana"];
    let provider = read("observability/grafana/dashboards.yml")?;
    let folder = provider["providers"][0]["options"]["path"].as_str().context("a folder")?;
    let mounted = format!("./observability/dashboards:{folder}:ro");
    assert!(names(&grafana["volumes"]).contains(&mounted), "{mounted}");
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().context("a home")?;
    let file = home.strip_prefix(folder).context("among the others")?.trim_start_matches('/');
    assert!(deploy("observability/dashboards").join(file).exists(), "{home}");
    Ok(())
}
