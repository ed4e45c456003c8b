//! `berth system`.

use berth_wire::{
    gc::{MeasureDiskReply, MeasureDiskRequest},
    metadata::{ImageMeasure, MeasureImagesRequest},
    types::Measure,
};

use crate::{cli::System, client::Client, commands::refused, output};

pub(crate) async fn run(client: &Client, command: System) -> anyhow::Result<()> {
    match command {
        System::Df { verbose, json } => df(client, verbose, json.json).await,
    }
}

/// One kind of thing that takes room.
struct Row {
    name: &'static str,
    count: u64,
    disk: u64,
    reclaimable: u64,
}

fn rows(measured: &MeasureDiskReply) -> [Row; 4] {
    let disk = |measure: Option<Measure>| measure.unwrap_or_default().disk;
    let count = |measure: Option<Measure>| measure.unwrap_or_default().count;
    let summary = measured.reclaimable.unwrap_or_default();
    let row = |name, measure, reclaimable| Row { name, count: count(measure), disk: disk(measure), reclaimable };
    [
        row("content", measured.blobs, disk(summary.blobs)),
        row("snapshots", measured.snapshots, disk(summary.directories)),
        row("ingests", measured.ingests, disk(summary.ingests)),
        Row { name: "databases and others", count: 0, disk: disk(measured.other), reclaimable: 0 },
    ]
}

async fn images(client: &Client) -> anyhow::Result<Vec<ImageMeasure>> {
    let mut images: Vec<ImageMeasure> = Vec::new();
    loop {
        let last = images.last().cloned().unwrap_or_default();
        let request = MeasureImagesRequest { after_namespace: last.namespace, after_name: last.name, limit: 0 };
        let page = client.gc().measure_images(request).await.map_err(refused)?.into_inner();
        images.extend(page.images);
        if !page.more {
            return Ok(images);
        }
    }
}

async fn df(client: &Client, verbose: bool, json: bool) -> anyhow::Result<()> {
    let measured = client.gc().measure_disk(MeasureDiskRequest {}).await.map_err(refused)?.into_inner();
    let images = images(client).await?;
    let rows = rows(&measured);
    let total: u64 = rows.iter().map(|row| row.disk).sum();
    let reclaimable: u64 = rows.iter().map(|row| row.reclaimable).sum();
    let unique: u64 = images.iter().map(|image| image.content_unique + image.snapshots_unique).sum();
    let referred = measured.image_content + measured.image_snapshots;
    if json {
        let row = |row: &Row| {
            (
                row.name.replace(' ', "-"),
                serde_json::json!({ "count": row.count, "bytes": row.disk, "reclaimableBytes": row.reclaimable }),
            )
        };
        let image = |image: &ImageMeasure| {
            serde_json::json!({
                "namespace": image.namespace,
                "name": image.name,
                "contentUniqueBytes": image.content_unique,
                "contentSharedBytes": image.content_shared,
                "snapshotsUniqueBytes": image.snapshots_unique,
                "snapshotsSharedBytes": image.snapshots_shared,
            })
        };
        return output::print_json(&serde_json::json!({
            "disk": rows.iter().map(row).collect::<serde_json::Map<_, _>>(),
            "totalBytes": total,
            "reclaimableBytes": reclaimable,
            "imageCount": measured.images,
            "imageBytes": referred,
            "imageUniqueBytes": unique,
            "imageSharedBytes": referred - unique.min(referred),
            "images": images.iter().map(image).collect::<Vec<_>>(),
        }));
    }
    let mut table = output::table(&["TYPE", "COUNT", "DISK", "RECLAIMABLE"]);
    for row in &rows {
        let count = if row.count > 0 { row.count.to_string() } else { "-".to_owned() };
        table.add_row([row.name.to_owned(), count, output::size(row.disk), output::size(row.reclaimable)]);
    }
    table.add_row(["total".to_owned(), String::new(), output::size(total), output::size(reclaimable)]);
    output::print_table(&table)?;
    output::print(&format!(
        "\n{} images use {}: {} by one of them alone, {} shared",
        measured.images,
        output::size(referred),
        output::size(unique),
        output::size(referred - unique.min(referred))
    ))?;
    if verbose {
        let mut table =
            output::table(&["NAMESPACE", "IMAGE", "CONTENT", "OF IT SHARED", "SNAPSHOTS", "OF THEM SHARED"]);
        for image in images {
            table.add_row([
                image.namespace,
                image.name,
                output::size(image.content_unique + image.content_shared),
                output::size(image.content_shared),
                output::size(image.snapshots_unique + image.snapshots_shared),
                output::size(image.snapshots_shared),
            ]);
        }
        output::print("")?;
        output::print_table(&table)?;
    }
    Ok(())
}
