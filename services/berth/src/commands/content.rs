//! `berth content`.

use std::io::Write as _;

use berth_wire::{
    content::{Ingest, ListIngestsRequest},
    gateway::ReadRequest,
    metadata::{self as msg, DeleteContentRequest, GetContentRequest, ListContentRequest},
};

use crate::{
    cli::{Content, List},
    client::Client,
    commands::refused,
    output,
};

pub(crate) async fn run(client: &Client, command: Content) -> anyhow::Result<()> {
    match command {
        Content::Ls(list) => ls(client, &list).await,
        Content::Info { digest } => {
            let request = GetContentRequest { namespace: client.namespace.clone(), digest };
            let content = client.content().info(request).await.map_err(refused)?.into_inner();
            output::print_json(&json(&content))
        }
        Content::Get { digest } => get(client, digest).await,
        Content::Rm { digests } => {
            for digest in digests {
                let request = DeleteContentRequest { namespace: client.namespace.clone(), digest: digest.clone() };
                client.content().delete(request).await.map_err(refused)?;
                output::print(&digest)?;
            }
            Ok(())
        }
        Content::Active(list) => active(client, &list).await,
        // The caller has taken them already: they are of `berth gc`.
        Content::Gc(_) | Content::Fsck(_) => Ok(()),
    }
}

fn json(content: &msg::Content) -> serde_json::Value {
    serde_json::json!({
        "digest": content.digest,
        "size": content.size,
        "labels": content.labels,
        "createdAt": output::time(content.created_at.as_ref()),
        "updatedAt": output::time(content.updated_at.as_ref()),
    })
}

async fn all(client: &Client) -> anyhow::Result<Vec<msg::Content>> {
    let mut contents: Vec<msg::Content> = Vec::new();
    loop {
        let after = contents.last().map(|content| content.digest.clone()).unwrap_or_default();
        let request = ListContentRequest { namespace: client.namespace.clone(), after, limit: 0 };
        let page = client.content().list(request).await.map_err(refused)?.into_inner();
        contents.extend(page.contents);
        if !page.more {
            return Ok(contents);
        }
    }
}

async fn ls(client: &Client, list: &List) -> anyhow::Result<()> {
    let contents = all(client).await?;
    if list.quiet {
        return Ok(contents.iter().try_for_each(|content| output::print(&content.digest))?);
    }
    if list.json {
        return contents.iter().try_for_each(|content| output::print_json(&json(content)));
    }
    let mut table = output::table(&["DIGEST", "SIZE", "CREATED", "LABELS"]);
    for content in &contents {
        table.add_row([
            content.digest.clone(),
            output::size(content.size),
            output::time(content.created_at.as_ref()),
            output::labels(&content.labels),
        ]);
    }
    Ok(output::print_table(&table)?)
}

async fn get(client: &Client, digest: String) -> anyhow::Result<()> {
    let request = ReadRequest { namespace: client.namespace.clone(), digest, offset: 0, size: 0 };
    let mut stream = client.content().read(request).await.map_err(refused)?.into_inner();
    while let Some(chunk) = stream.message().await.map_err(refused)? {
        std::io::stdout().lock().write_all(&chunk.data)?;
    }
    Ok(std::io::stdout().lock().flush()?)
}

async fn active(client: &Client, list: &List) -> anyhow::Result<()> {
    let mut ingests: Vec<Ingest> = Vec::new();
    loop {
        let after = ingests.last().map(|ingest| ingest.r#ref.clone()).unwrap_or_default();
        let page =
            client.content().list_ingests(ListIngestsRequest { after, limit: 0 }).await.map_err(refused)?.into_inner();
        ingests.extend(page.ingests);
        if !page.more {
            break;
        }
    }
    if list.quiet {
        return Ok(ingests.iter().try_for_each(|ingest| output::print(&ingest.r#ref))?);
    }
    if list.json {
        return ingests.iter().try_for_each(|ingest| {
            output::print_json(&serde_json::json!({
                "ref": ingest.r#ref,
                "expected": ingest.expected,
                "offset": ingest.offset,
                "total": ingest.total,
                "active": ingest.active,
                "startedAt": output::time(ingest.started_at.as_ref()),
                "updatedAt": output::time(ingest.updated_at.as_ref()),
            }))
        });
    }
    let mut table = output::table(&["REF", "OFFSET", "TOTAL", "STATE", "UPDATED"]);
    for ingest in &ingests {
        table.add_row([
            ingest.r#ref.clone(),
            output::size(ingest.offset),
            output::size(ingest.total),
            if ingest.active { "writing".to_owned() } else { "interrupted".to_owned() },
            output::time(ingest.updated_at.as_ref()),
        ]);
    }
    Ok(output::print_table(&table)?)
}
