//! What has a name and no bytes: the server itself, its plugins, namespaces, leases.

use std::collections::BTreeSet;

use anyhow::Result;
use berth_integration_tests::{ctr, facts::lines};
use berth_testing::shape::Stage;

with_a_daemon! {
    the_server_says_what_it_is,
    namespaces_are_made_labelled_and_removed,
    leases_are_made_listed_and_deleted,
}

async fn the_server_says_what_it_is(stage: Stage) -> Result<()> {
    let version = ctr::ok(&stage, ["version"])?;
    let server = version.split("Server:").nth(1).unwrap_or_default().to_owned();
    assert!(server.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let uuid = |text: &str| text.split("UUID:").nth(1).map(|uuid| uuid.trim().to_owned());
    assert_eq!(uuid(&server).unwrap().len(), 36, "{version}");
    assert_eq!(uuid(&ctr::ok(&stage, ["version"])?), uuid(&version), "it stays");

    let listed = ctr::ok(&stage, ["plugins", "ls"])?;
    let rows: BTreeSet<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let host = berth_model::Platform::host();
    let platform = format!("{}/{}", host.os, host.architecture);
    for row in [
        ["io.containerd.content.v1", "content", "-", "ok"],
        ["io.containerd.grpc.v1", "images", "-", "ok"],
        ["io.containerd.snapshotter.v1", "overlayfs", &platform, "ok"],
    ] {
        assert!(rows.contains(row.as_slice()), "{row:?} is not in\n{listed}");
    }
    assert!(rows.iter().skip(1).all(|row| row[0] == "TYPE" || row[3] == "ok"), "{listed}");
    let detailed = ctr::ok(&stage, ["plugins", "ls", "--detailed"])?;
    assert!(detailed.contains("rebase"), "{detailed}");
    Ok(())
}

async fn namespaces_are_made_labelled_and_removed(stage: Stage) -> Result<()> {
    ctr::ok(&stage, ["namespaces", "create", "team", "owner=a", "tier=b"])?;
    assert!(ctr::fails(&stage, ["namespaces", "create", "team"])?.contains("already exists"));
    assert!(ctr::fails(&stage, ["namespaces", "create", "a b"])?.contains("a b"));
    ctr::ok(&stage, ["namespaces", "label", "team", "owner=c", "tier="])?;
    let listed = ctr::ok(&stage, ["namespaces", "ls"])?;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [vec!["NAME", "LABELS"], vec!["team", "owner=c"]]);

    let file = stage.scratch().join("hello");
    std::fs::write(&file, b"hello")?;
    // The daemon collects what nothing keeps.
    let kept = format!("content/{}", berth_model::Digest::of(b"hello"));
    stage.ok(["-n", "team", "leases", "create", "--id", "kept"])?;
    stage.ok(["-n", "team", "leases", "resources", "kept", "--add", &kept])?;
    ctr::ok_with_input(&stage, ["-n", "team", "content", "ingest", "x"], &file)?;
    let digest = ctr::ok(&stage, ["-n", "team", "content", "ls", "-q"])?.trim().to_owned();
    let said = ctr::fails(&stage, ["namespaces", "rm", "team"])?;
    assert!(said.contains("must be empty") && said.contains(&digest), "names what is there: {said}");
    // Leases do not keep it.
    ctr::ok(&stage, ["-n", "team", "leases", "create", "--id", "l"])?;
    ctr::ok(&stage, ["-n", "team", "content", "rm", &digest])?;
    ctr::ok(&stage, ["namespaces", "rm", "team"])?;
    assert_eq!(lines(&ctr::ok(&stage, ["namespaces", "ls", "-q"])?), Vec::<String>::new());
    ctr::ok(&stage, ["namespaces", "create", "team"])?;
    assert_eq!(ctr::ok(&stage, ["-n", "team", "leases", "ls", "-q"])?.trim(), "", "a lease went with its namespace");
    Ok(())
}

async fn leases_are_made_listed_and_deleted(stage: Stage) -> Result<()> {
    let made = ctr::ok(&stage, ["leases", "create", "--id", "one", "k=v"])?;
    assert_eq!(made.trim(), "one");
    assert!(ctr::fails(&stage, ["leases", "create", "--id", "one"])?.contains("already exists"));
    let random = ctr::ok(&stage, ["leases", "create", "--expires", "1h"])?.trim().to_owned();
    assert!(!random.is_empty());
    let listed = ctr::ok(&stage, ["leases", "ls"])?;
    let one = listed.lines().find(|line| line.starts_with("one ")).unwrap_or_default();
    assert!(one.contains("k=v") && one.contains("containerd.io/gc.expire="), "{listed}");
    let filtered = ctr::ok(&stage, ["leases", "ls", "-q", "labels.k==v"])?;
    assert_eq!(lines(&filtered), ["one"]);
    assert!(ctr::fails(&stage, ["leases", "ls", "id=="])?.contains("filter"));
    ctr::ok(&stage, ["leases", "delete", "one"])?;
    ctr::ok(&stage, ["leases", "delete", "--sync", &random])?;
    assert_eq!(ctr::ok(&stage, ["leases", "ls", "-q"])?.trim(), "");
    assert!(ctr::run(&stage, ["leases", "delete", "one"])?.stderr.contains("not found"));
    Ok(())
}
