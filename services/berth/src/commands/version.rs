//! `berth version`.

use berth_wire::gateway::{VersionReply, VersionRequest};

use crate::{
    assemble,
    cli::{Global, Json},
    client::{self, Client},
    commands::refused,
    output,
};

pub(crate) async fn run(global: &Global, json: &Json) -> anyhow::Result<()> {
    let settings = client::settings(global)?;
    let ours = assemble::info(&settings);
    // Asking a version must not make a store: only a daemon that runs is asked.
    let address = client::address(global, &settings);
    let server = if tokio::net::UnixStream::connect(&address).await.is_ok() {
        let client = Client::connect(global, "version").await?;
        Some(client.version().get(VersionRequest {}).await.map_err(refused)?.into_inner())
    } else {
        None
    };
    if json.json {
        return output::print_json(&serde_json::json!({
            "client": { "version": ours.version, "revision": ours.revision },
            "server": server.as_ref().map(|server| serde_json::json!({
                "version": server.version, "revision": server.revision, "root": server.root, "pid": server.pid,
            })),
        }));
    }
    let server = match server {
        Some(VersionReply { version, revision, root, pid }) => {
            format!("Server:\n  Version:  {version}\n  Revision: {revision}\n  Root:     {root}\n  PID:      {pid}\n")
        }
        None => format!("Server: none on {}; commands run by themselves\n", address.display()),
    };
    output::print(&format!("Client:\n  Version:  {}\n  Revision: {}\n\n{server}", ours.version, ours.revision))?;
    Ok(())
}
