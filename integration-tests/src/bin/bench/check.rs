//! That nobody is fast by leaving something out: what each pull has left, beside what the image is.

use anyhow::{Context as _, Result, ensure};

use crate::{
    disk::Disk,
    images::Images,
    link::Shape,
    peers::{Kind, Peer},
    reference::Reference,
    seen::Seen,
    through,
};

/// Pulls each image once by each peer through each link, and compares. An error if Berth has left anything else than the
/// image; of others it is only told.
pub(crate) fn all(
    peers: &[Peer],
    links: &[(&str, Option<Shape>)],
    cpus: Option<&str>,
    images: &Images,
    disk: &Disk,
) -> Result<()> {
    let on = cpus.map_or_else(String::new, |cpus| format!(", processors {cpus}"));
    let (mut pulls, mut wrong) = (0, 0);
    for image in images.list() {
        let expected = Reference::of(&image.source, disk.fresh()?.path());
        let (name, expected) = (&image.name, expected.with_context(|| format!("extract {}", image.name))?);
        for (link, shape) in links {
            let reference = through(&image.reference, *shape)?;
            for peer in peers {
                if matches!(peer.kind(), Kind::Podman) {
                    println!("{name}, {link}{on}, {}: left out: it has no tree that could be looked at", peer.name());
                    continue;
                }
                let found = match pulled(peer, &reference, disk) {
                    Err(error) if !peer.is_berth() => {
                        println!("{name}, {link}{on}, {}: not pulled: {error:#}", peer.name());
                        continue;
                    }
                    found => found?,
                };
                let (entries, blobs) = (found.tree.len(), found.blobs.len());
                let lines = found.differences(&expected);
                print!("{name}, {link}{on}, {}: ", peer.name());
                if lines.is_empty() {
                    println!("same: {entries} entries, {blobs} blobs");
                } else {
                    println!("different\n  {}", lines.join("\n  "));
                }
                if peer.is_berth() {
                    pulls += 1;
                    wrong += usize::from(!lines.is_empty());
                }
            }
        }
    }
    ensure!(wrong == 0, "{wrong} of {pulls} pulls by Berth left something else than the image");
    Ok(())
}

fn pulled(peer: &Peer, image: &str, disk: &Disk) -> Result<Seen> {
    let mounted = disk.fresh()?;
    peer.pull(image, mounted.path()).with_context(|| format!("{} pulls {image}", peer.name()))?;
    Seen::of(peer, image, mounted.path()).with_context(|| format!("look at what {} pulled of {image}", peer.name()))
}
