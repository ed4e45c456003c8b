//! `berth leases`.

use std::{collections::BTreeMap, time::Duration};

use berth_wire::metadata::{
    AddLeaseResourcesRequest, CreateLeaseRequest, DeleteLeaseRequest, DeleteLeaseResourcesRequest, GetLeaseRequest,
    Lease, ListLeasesRequest, Resource,
};

use crate::{
    cli::{Leases, List},
    client::Client,
    commands::{gc, refused},
    output,
};

pub(crate) async fn run(client: &Client, command: Leases) -> anyhow::Result<()> {
    match command {
        Leases::Create { id, expires, label } => create(client, id, expires, label).await,
        Leases::Ls { list, verbose } => ls(client, &list, verbose).await,
        Leases::Rm { ids, sync } => {
            for id in ids {
                let request = DeleteLeaseRequest { namespace: client.namespace.clone(), id: id.clone() };
                client.leases().delete(request).await.map_err(refused)?;
                output::print(&id)?;
            }
            gc::after_removal(client, sync).await
        }
        Leases::Resources { id, add, remove, json } => resources(client, id, &add, &remove, json).await,
    }
}

async fn create(
    client: &Client,
    id: Option<String>,
    expires: Option<Duration>,
    labels: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let lasts = expires.unwrap_or(client.settings.lease_expiration);
    anyhow::ensure!(lasts >= Duration::from_secs(1), "a lease lasts at least a second");
    let request = CreateLeaseRequest {
        namespace: client.namespace.clone(),
        id: id.unwrap_or_default(),
        labels: labels.into_iter().collect::<BTreeMap<_, _>>(),
        expires_in_seconds: lasts.as_secs(),
    };
    let lease = client.leases().create(request).await.map_err(refused)?.into_inner();
    Ok(output::print(&lease.id)?)
}

async fn all(client: &Client) -> anyhow::Result<Vec<Lease>> {
    let mut leases: Vec<Lease> = Vec::new();
    loop {
        let after = leases.last().map(|lease| lease.id.clone()).unwrap_or_default();
        let request = ListLeasesRequest { namespace: client.namespace.clone(), after, ..ListLeasesRequest::default() };
        let page = client.leases().list(request).await.map_err(refused)?.into_inner();
        leases.extend(page.leases);
        if !page.more {
            return Ok(leases);
        }
    }
}

async fn ls(client: &Client, list: &List, verbose: bool) -> anyhow::Result<()> {
    let leases = all(client).await?;
    if list.quiet {
        return Ok(leases.iter().try_for_each(|lease| output::print(&lease.id))?);
    }
    if list.json {
        return leases.iter().try_for_each(|lease| {
            output::print_json(&serde_json::json!({
                "id": lease.id,
                "labels": lease.labels,
                "createdAt": output::time(lease.created_at.as_ref()),
                "expiresAt": output::time(lease.expires_at.as_ref()),
                "resources": lease.resources.iter().map(json).collect::<Vec<_>>(),
            }))
        });
    }
    let mut table = output::table(&["LEASE ID", "CREATED AT", "EXPIRES AT", "RESOURCES", "LABELS"]);
    for lease in &leases {
        table.add_row([
            lease.id.clone(),
            output::time(lease.created_at.as_ref()),
            output::time(lease.expires_at.as_ref()),
            lease.resources.len().to_string(),
            output::labels(&lease.labels),
        ]);
        if verbose {
            for named in &lease.resources {
                table.add_row([format!("  {}/{}", named.r#type, named.id)]);
            }
        }
    }
    Ok(output::print_table(&table)?)
}

fn json(named: &Resource) -> serde_json::Value {
    serde_json::json!({ "type": named.r#type, "id": named.id })
}

/// TYPE/ID as people write it. The type of a snapshot has a slash of its own.
fn parse(text: &str) -> anyhow::Result<Resource> {
    let parts = match text.strip_prefix("snapshots/") {
        Some(rest) => rest.split_once('/').map(|(snapshotter, key)| (format!("snapshots/{snapshotter}"), key)),
        None => text.split_once('/').map(|(r#type, id)| (r#type.to_owned(), id)),
    };
    match parts {
        Some((r#type, id)) if !id.is_empty() => Ok(Resource { r#type, id: id.to_owned() }),
        _ => anyhow::bail!(
            "{text:?} names no resource; write content/DIGEST, images/NAME, ingests/REF or snapshots/SNAPSHOTTER/KEY"
        ),
    }
}

async fn resources(
    client: &Client,
    id: String,
    add: &[String],
    remove: &[String],
    as_json: bool,
) -> anyhow::Result<()> {
    let namespace = client.namespace.clone();
    let parsed = |texts: &[String]| texts.iter().map(|text| parse(text)).collect::<anyhow::Result<Vec<_>>>();
    let (add, remove) = (parsed(add)?, parsed(remove)?);
    if !add.is_empty() {
        let request = AddLeaseResourcesRequest { namespace: namespace.clone(), id: id.clone(), resources: add };
        client.leases().add_resources(request).await.map_err(refused)?;
    }
    if !remove.is_empty() {
        let request = DeleteLeaseResourcesRequest { namespace: namespace.clone(), id: id.clone(), resources: remove };
        client.leases().delete_resources(request).await.map_err(refused)?;
    }
    let lease = client.leases().get(GetLeaseRequest { namespace, id }).await.map_err(refused)?.into_inner();
    if as_json {
        return lease.resources.iter().try_for_each(|named| output::print_json(&json(named)));
    }
    let mut table = output::table(&["TYPE", "ID"]);
    for named in lease.resources {
        table.add_row([named.r#type, named.id]);
    }
    Ok(output::print_table(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_as_people_write_them() {
        for (text, r#type, id) in [
            ("content/sha256:00", "content", "sha256:00"),
            ("images/docker.io/library/a:1", "images", "docker.io/library/a:1"),
            ("ingests/layer-sha256:00", "ingests", "layer-sha256:00"),
            ("snapshots/overlayfs/a/b", "snapshots/overlayfs", "a/b"),
        ] {
            let named = parse(text).unwrap();
            assert_eq!((named.r#type.as_str(), named.id.as_str()), (r#type, id));
        }
        for text in ["", "content", "content/", "snapshots/overlayfs", "snapshots/overlayfs/"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
