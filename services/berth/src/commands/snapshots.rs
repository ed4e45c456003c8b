//! `berth snapshots`.

use std::path::Path;

use berth_model::labels;
use berth_wire::{
    metadata::{ListSnapshotsRequest, Snapshot, StatSnapshotRequest},
    types::Mount,
    unpacker::{CommitActiveRequest, GetMountsRequest, GetUsageRequest, PrepareMountsRequest, RemoveTreeRequest},
};

use crate::{
    cli::{List, Snapshots, Snapshotter},
    client::Client,
    commands::refused,
    output,
};

pub(crate) async fn run(client: &Client, command: Snapshots) -> anyhow::Result<()> {
    let namespace = client.namespace.clone();
    match command {
        Snapshots::Ls { list, of } => ls(client, &list, &of).await,
        Snapshots::Info { key, of } => {
            let request = StatSnapshotRequest { namespace, snapshotter: of.name, key };
            let found = client.snapshots().stat(request).await.map_err(refused)?.into_inner();
            output::print_json(&json(&found.snapshot.unwrap_or_default()))
        }
        Snapshots::Usage { keys, bytes, of } => usage(client, keys, bytes, of).await,
        Snapshots::Mounts { target, key, of } => {
            let request = GetMountsRequest { namespace, snapshotter: of.name, key };
            let mounts = client.snapshots().mounts(request).await.map_err(refused)?.into_inner().mounts;
            print_mounts(&mounts, &target)
        }
        Snapshots::Prepare { key, parent, target, of } => make(client, key, parent, target.as_deref(), of, false).await,
        Snapshots::View { key, parent, target, of } => make(client, key, parent, target.as_deref(), of, true).await,
        Snapshots::Commit { name, key, of } => {
            // Nothing refers to it yet: without this the next collection would take it.
            let labels = [(labels::GC_ROOT.to_owned(), jiff::Timestamp::now().to_string())].into();
            let request =
                CommitActiveRequest { namespace, snapshotter: of.name, key, name, labels, ..Default::default() };
            client.snapshots().commit(request).await.map_err(refused)?;
            Ok(())
        }
        Snapshots::Rm { keys, of } => {
            for key in keys {
                let request =
                    RemoveTreeRequest { namespace: namespace.clone(), snapshotter: of.name.clone(), key: key.clone() };
                client.snapshots().remove(request).await.map_err(refused)?;
                output::print(&key)?;
            }
            Ok(())
        }
    }
}

async fn make(
    client: &Client,
    key: String,
    parent: String,
    target: Option<&Path>,
    of: Snapshotter,
    view: bool,
) -> anyhow::Result<()> {
    let namespace = client.namespace.clone();
    let request = PrepareMountsRequest { namespace, snapshotter: of.name, key, parent, view, ..Default::default() };
    let mounts = client.snapshots().prepare(request).await.map_err(refused)?.into_inner().mounts;
    target.map_or(Ok(()), |target| print_mounts(&mounts, target))
}

/// The commands that a person can run.
fn print_mounts(mounts: &[Mount], target: &Path) -> anyhow::Result<()> {
    for mount in mounts {
        let kind = if mount.r#type == "bind" { String::new() } else { format!("-t {} ", mount.r#type) };
        output::print(&format!("mount {kind}{} {} -o {}", mount.source, target.display(), mount.options.join(",")))?;
    }
    Ok(())
}

fn json(snapshot: &Snapshot) -> serde_json::Value {
    serde_json::json!({
        "key": snapshot.name,
        "parent": snapshot.parent,
        "kind": snapshot.kind().word(),
        "labels": snapshot.labels,
        "createdAt": output::time(snapshot.created_at.as_ref()),
        "updatedAt": output::time(snapshot.updated_at.as_ref()),
        "usage": snapshot.usage.as_ref().map(|usage| serde_json::json!({ "size": usage.size, "inodes": usage.inodes })),
    })
}

async fn all(client: &Client, of: &Snapshotter) -> anyhow::Result<Vec<Snapshot>> {
    let mut snapshots: Vec<Snapshot> = Vec::new();
    loop {
        let after = snapshots.last().map(|snapshot| snapshot.name.clone()).unwrap_or_default();
        let request =
            ListSnapshotsRequest { namespace: client.namespace.clone(), snapshotter: of.name.clone(), after, limit: 0 };
        let page = client.snapshots().list(request).await.map_err(refused)?.into_inner();
        snapshots.extend(page.snapshots);
        if !page.more {
            return Ok(snapshots);
        }
    }
}

async fn ls(client: &Client, list: &List, of: &Snapshotter) -> anyhow::Result<()> {
    let snapshots = all(client, of).await?;
    if list.quiet {
        return Ok(snapshots.iter().try_for_each(|snapshot| output::print(&snapshot.name))?);
    }
    if list.json {
        return snapshots.iter().try_for_each(|snapshot| output::print_json(&json(snapshot)));
    }
    let mut table = output::table(&["KEY", "PARENT", "KIND"]);
    for snapshot in &snapshots {
        table.add_row([snapshot.name.clone(), snapshot.parent.clone(), snapshot.kind().word().to_owned()]);
    }
    Ok(output::print_table(&table)?)
}

async fn usage(client: &Client, keys: Vec<String>, bytes: bool, of: Snapshotter) -> anyhow::Result<()> {
    let keys = if keys.is_empty() {
        all(client, &of).await?.into_iter().map(|snapshot| snapshot.name).collect()
    } else {
        keys
    };
    let mut table = output::table(&["KEY", "SIZE", "INODES"]);
    for key in keys {
        let request =
            GetUsageRequest { namespace: client.namespace.clone(), snapshotter: of.name.clone(), key: key.clone() };
        let usage = client.snapshots().usage(request).await.map_err(refused)?.into_inner();
        let size = if bytes { usage.size.to_string() } else { output::size(usage.size) };
        table.add_row([key, size, usage.inodes.to_string()]);
    }
    Ok(output::print_table(&table)?)
}
