//! Packings told apart by their bytes: whole ones in all their forms, broken ones refused.

use std::{io::Write as _, path::Path};

use berth_model::{Code, Status};
use berth_testing::tree::Tree;

use crate::{
    archive::{Item, archive},
    kit::Home,
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A frame that says nothing (RFC 8878, 3.1.2).
fn skippable(magic: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[magic, 0x2a, 0x4d, 0x18], &length.to_le_bytes()[..], bytes].concat()
}

/// An archive that does not compress to nothing.
fn layer() -> Vec<u8> {
    let mut state = 7_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] & 0x3f
    })
    .take(400_000)
    .collect();
    archive(&[Item::dir("d"), Item::file("d/noise", noise), Item::file("last", "x")])
}

async fn unpacked(archive: &[u8], packed: &[u8]) -> Result<Tree, Status> {
    let home = Home::new().await;
    let base = crate::archive::archive(&[Item::file("base", "x")]);
    let layers = [home.put(&base, &base), home.put(archive, packed)];
    let name = home.stack(&layers).await?;
    Ok(home.seen(&name).await)
}

#[tokio::test]
async fn every_whole_packing_gives_the_same_tree() {
    let bytes = layer();
    let (half, other) = bytes.split_at(bytes.len() / 2);
    let (third, rest) = bytes.split_at(513);
    let mut reference = None;
    for (what, packed) in [
        ("as it is", bytes.clone()),
        ("gzip", gzip(&bytes)),
        ("two members", [gzip(half), gzip(other)].concat()),
        ("an empty member between", [gzip(half), gzip(b""), gzip(other)].concat()),
        ("many members", bytes.chunks(10_000).flat_map(gzip).collect()),
        ("zeros after the last member", [gzip(&bytes), vec![0; 70_000]].concat()),
        ("zstd", zstd(&bytes)),
        ("two frames", [zstd(third), zstd(rest)].concat()),
        ("a skippable frame first", [skippable(0x50, b"index"), zstd(&bytes)].concat()),
        (
            "skippable frames around",
            [skippable(0x5f, &[0; 9000]), zstd(half), skippable(0x53, b""), zstd(other), skippable(0x50, b"toc")]
                .concat(),
        ),
        ("an empty frame between", [zstd(half), zstd(b""), zstd(other)].concat()),
    ] {
        let tree = unpacked(&bytes, &packed).await.unwrap_or_else(|status| panic!("{what}: {status}"));
        assert_eq!(tree[Path::new("d/noise")].size, 400_000, "{what}");
        // Directories that the layer does not speak of have the time of their making.
        let shown: Vec<_> = tree.into_iter().filter(|(path, _)| path != Path::new("")).collect();
        assert_eq!(reference.get_or_insert_with(|| shown.clone()), &shown, "{what}");
    }
}

#[tokio::test]
async fn every_broken_packing_is_refused() {
    let bytes = layer();
    let cut = |mut packed: Vec<u8>, length: usize| {
        packed.truncate(length);
        packed
    };
    let flip = |mut packed: Vec<u8>, at: usize| {
        packed[at] ^= 0x10;
        packed
    };
    let (gzipped, zstded) = (gzip(&bytes), zstd(&bytes));
    let (g, z) = (gzipped.len(), zstded.len());
    for (what, packed) in [
        ("gzip cut in its header", cut(gzipped.clone(), 6)),
        ("gzip cut in the middle", cut(gzipped.clone(), g / 2)),
        ("gzip without its checksum", cut(gzipped.clone(), g - 8)),
        ("gzip with half its checksum", cut(gzipped.clone(), g - 3)),
        ("gzip with another checksum", flip(gzipped.clone(), g - 7)),
        ("gzip with another length", flip(gzipped.clone(), g - 2)),
        ("gzip flipped in the middle", flip(gzipped.clone(), g / 2)),
        ("gzip and a text", [gzipped.clone(), b"and more".to_vec()].concat()),
        ("gzip, zeros and a text", [gzipped.clone(), vec![0; 100], b"and more".to_vec()].concat()),
        ("gzip and half a member", [gzipped.clone(), cut(gzip(b"more"), 12)].concat()),
        ("gzip of half the layer", gzip(&bytes[..bytes.len() / 2])),
        ("zstd cut in its header", cut(zstded.clone(), 5)),
        ("zstd cut in the middle", cut(zstded.clone(), z / 2)),
        ("zstd without its last byte", cut(zstded.clone(), z - 1)),
        ("zstd flipped in the middle", flip(zstded.clone(), z / 2)),
        ("zstd and a text", [zstded.clone(), b"and more".to_vec()].concat()),
        ("a skippable frame that is cut", [zstded.clone(), cut(skippable(0x50, &[7; 900]), 100)].concat()),
        ("only a skippable frame", skippable(0x50, b"nothing else")),
        ("gzip of zstd", gzip(&zstded)),
        ("nothing", Vec::new()),
    ] {
        let status = unpacked(&bytes, &packed).await.err().unwrap_or_else(|| panic!("{what} was unpacked"));
        let codes = [Code::InvalidArgument, Code::FailedPrecondition, Code::DataLoss];
        assert!(codes.contains(&status.code), "{what}: {status}");
    }
}
