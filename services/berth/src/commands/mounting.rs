//! `berth images mount` and `unmount`: a snapshot of the image, mounted by this process where the person is.

use std::path::Path;

use anyhow::Context as _;
use berth_model::{Code, Platform};
use berth_wire::{
    metadata::{StatSnapshotRequest, snapshot::Kind},
    unpacker::{PrepareMountsRequest, RemoveTreeRequest},
};

use crate::{
    client::Client,
    commands::{look, need_root, refused},
    mount, output,
};

/// The key of the snapshot mounted on a directory: its whole path.
fn key(target: &Path) -> anyhow::Result<String> {
    let whole = std::fs::canonicalize(target)
        .with_context(|| format!("{} is not there; make the directory first", target.display()))?;
    Ok(whole.display().to_string())
}

fn snapshotter(client: &Client, given: Option<String>) -> String {
    given.unwrap_or_else(|| client.settings.snapshotter.clone())
}

pub(crate) async fn mount(
    client: &Client,
    reference: &str,
    target: &Path,
    rw: bool,
    platform: Option<&Platform>,
    of: Option<String>,
) -> anyhow::Result<()> {
    need_root("mounting")?;
    let key = key(target)?;
    let snapshotter = snapshotter(client, of);
    let parent = look::chain_id(client, reference, platform).await?;
    let request = PrepareMountsRequest {
        namespace: client.namespace.clone(),
        snapshotter: snapshotter.clone(),
        key: key.clone(),
        parent,
        view: !rw,
        ..Default::default()
    };
    let mounts = match client.snapshots().prepare(request).await {
        Ok(reply) => reply.into_inner().mounts,
        Err(status) => {
            let status = berth_gateway::from_grpc(&status);
            let hint = match status.code {
                Code::AlreadyExists => {
                    format!("something was mounted on {key} before; end it with `berth images unmount --rm {key}`")
                }
                Code::NotFound => format!("{reference} is not unpacked here; run `berth pull {reference}`"),
                _ => format!("mount {reference}"),
            };
            return Err(anyhow::Error::from(status).context(hint));
        }
    };
    if let Err(error) = mount::all(&mounts, Path::new(&key)) {
        let request = RemoveTreeRequest { namespace: client.namespace.clone(), snapshotter, key: key.clone() };
        client.snapshots().remove(request).await.map_err(refused)?;
        return Err(error);
    }
    output::print(&key)?;
    Ok(())
}

pub(crate) async fn unmount(client: &Client, target: &Path, rm: bool, of: Option<String>) -> anyhow::Result<()> {
    need_root("unmounting")?;
    let key = key(target)?;
    let snapshotter = snapshotter(client, of);
    let stat =
        StatSnapshotRequest { namespace: client.namespace.clone(), snapshotter: snapshotter.clone(), key: key.clone() };
    let found = client.snapshots().stat(stat).await.map_err(refused)?.into_inner();
    mount::unmount(Path::new(&key))?;
    let kind = found.snapshot.map_or(Kind::Unknown, |snapshot| snapshot.kind());
    // A view holds nothing of anybody's; what was written stays unless it is said to go.
    if kind == Kind::View || rm {
        let request = RemoveTreeRequest { namespace: client.namespace.clone(), snapshotter, key: key.clone() };
        client.snapshots().remove(request).await.map_err(refused)?;
    } else {
        eprintln!("what was written is kept in snapshot {key}; remove it with `berth snapshots rm {key}`");
    }
    output::print(&key)?;
    Ok(())
}
