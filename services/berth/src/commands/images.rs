//! `berth images`: ls, inspect and rm; mounting is in `mounting`.

use std::{collections::HashMap, sync::atomic::AtomicBool};

use berth_wire::metadata::{DeleteImageRequest, Image, ListImagesRequest};
use futures::StreamExt as _;

use crate::{
    cli::{Images, List},
    client::Client,
    commands::{ahead::Ahead, gc, look, mounting, refused},
    output,
};

/// Images whose documents are read together, and so many times that at a time. Of each group at most so many are asked of
/// alone at a time.
const GROUP: usize = 128;
const GROUPS: usize = 4;
const LOOKS: usize = 8;

pub(crate) async fn run(client: &Client, command: Images) -> anyhow::Result<()> {
    match command {
        Images::Ls(list) => ls(client, &list).await,
        Images::Inspect { reference, content } => inspect(client, &reference, content).await,
        Images::Rm { references, sync } => {
            for reference in references {
                let name = look::name(&reference);
                let request = DeleteImageRequest {
                    namespace: client.namespace.clone(),
                    name: name.clone(),
                    target: String::new(),
                };
                client.images().delete(request).await.map_err(refused)?;
                output::print(&name)?;
            }
            gc::after_removal(client, sync).await
        }
        Images::Mount { reference, target, rw, platform, snapshotter } => {
            mounting::mount(client, &reference, &target, rw, platform.as_ref(), snapshotter).await
        }
        Images::Unmount { target, rm, snapshotter } => mounting::unmount(client, &target, rm, snapshotter).await,
        // The caller has taken it already: it is `berth pull`.
        Images::Pull(_) => Ok(()),
    }
}

async fn all(client: &Client) -> anyhow::Result<Vec<Image>> {
    let mut images: Vec<Image> = Vec::new();
    loop {
        let after = images.last().map(|image| image.name.clone()).unwrap_or_default();
        let request = ListImagesRequest { namespace: client.namespace.clone(), after, limit: 0 };
        let page = client.images().list(request).await.map_err(refused)?.into_inner();
        images.extend(page.images);
        if !page.more {
            return Ok(images);
        }
    }
}

fn json(image: &Image) -> serde_json::Value {
    serde_json::json!({
        "name": image.name,
        "target": output::descriptor(image.target.as_ref()),
        "labels": image.labels,
        "createdAt": output::time(image.created_at.as_ref()),
        "updatedAt": output::time(image.updated_at.as_ref()),
    })
}

/// Size and platforms of an image; what is the matter with its documents.
type Seen = anyhow::Result<(String, String)>;

/// Size and platforms of what the images are of, by its digest. Many names may be of one thing, and each question is a way
/// there and back: so each is asked once, and of many together.
async fn seen(client: &Client, images: &[Image]) -> HashMap<String, Seen> {
    let distinct: HashMap<&str, &Image> =
        images.iter().filter_map(|image| Some((image.target.as_ref()?.digest.as_str(), image))).collect();
    let distinct: Vec<&Image> = distinct.into_values().collect();
    let offered = AtomicBool::new(true);
    let groups = distinct.chunks(GROUP).map(|group| seen_together(client, group, &offered));
    let seen: Vec<Vec<(String, Seen)>> = futures::stream::iter(groups).buffer_unordered(GROUPS).collect().await;
    seen.into_iter().flatten().collect()
}

async fn seen_together(client: &Client, images: &[&Image], offered: &AtomicBool) -> Vec<(String, Seen)> {
    let ahead = &Ahead::of(client, images, offered).await;
    let look = async |image: &Image| {
        let digest = image.target.clone().unwrap_or_default().digest;
        let parts = look::parts(client, image, ahead).await;
        (digest, parts.map(|parts| (output::size(look::size(&parts)), look::platforms(&parts).join(","))))
    };
    futures::stream::iter(images.iter().copied().map(look)).buffer_unordered(LOOKS).collect().await
}

async fn ls(client: &Client, list: &List) -> anyhow::Result<()> {
    let images = all(client).await?;
    if list.quiet {
        return Ok(images.iter().try_for_each(|image| output::print(&image.name))?);
    }
    if list.json {
        return images.iter().try_for_each(|image| output::print_json(&json(image)));
    }
    let seen = seen(client, &images).await;
    let mut table = output::table(&["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"]);
    for image in &images {
        let target = image.target.clone().unwrap_or_default();
        // An image some of whose documents were removed is listed all the same.
        let (size, platforms) = match seen.get(&target.digest) {
            Some(Ok(known)) => known.clone(),
            _ => ("incomplete".to_owned(), "-".to_owned()),
        };
        let row = [image.name.clone(), look::kind(&target.media_type).to_owned(), target.digest, size, platforms];
        table.add_row(row.into_iter().chain([output::labels(&image.labels)]));
    }
    Ok(output::print_table(&table)?)
}

async fn inspect(client: &Client, reference: &str, content: bool) -> anyhow::Result<()> {
    let image = look::record(client, reference).await?;
    let parts = look::parts(client, &image, &Ahead::default()).await?;
    let mut value = json(&image);
    let manifests: Vec<serde_json::Value> = parts
        .images
        .iter()
        .map(|(manifest, parsed, config)| {
            let mut value = serde_json::json!({
                "digest": manifest.descriptor.digest,
                "mediaType": manifest.descriptor.media_type,
                "config": parsed.config,
                "layers": parsed.layers,
            });
            if let Ok(read) = berth_model::Config::parse(config.descriptor.digest, &config.bytes)
                && let Some(fields) = value.as_object_mut()
            {
                let top = berth_model::chain_ids(&read.diff_ids).last().map(ToString::to_string);
                fields.insert("platform".to_owned(), read.platform.to_string().into());
                fields.insert("chainId".to_owned(), top.into());
            }
            if content && let Some(fields) = value.as_object_mut() {
                fields.insert("manifestContent".to_owned(), look::json(manifest));
                fields.insert("configContent".to_owned(), look::json(config));
            }
            value
        })
        .collect();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("size".to_owned(), look::size(&parts).into());
        if content && let Some(index) = &parts.index {
            fields.insert("indexContent".to_owned(), look::json(index));
        }
        fields.insert("manifests".to_owned(), manifests.into());
    }
    output::print(&serde_json::to_string_pretty(&value)?)?;
    Ok(())
}
