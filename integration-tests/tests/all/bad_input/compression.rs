//! Layers whose bytes are what their digest says, and are still no layer.

use anyhow::Result;
use berth_integration_tests::image::with_layer_blob;
use berth_testing::{
    hostile::Faults,
    image::{Compression, Image, ImageBuilder, Layer},
    shape::Stage,
};

use super::{good_image, image_refused};

in_every_shape! {
    corrupt_gzip,
    truncated_gzip,
    corrupt_zstd,
    truncated_zstd,
    bytes_of_no_format,
    truncated_tar,
    wrong_diff_id,
}

/// The second layer is packed like this, and then its bytes are changed.
fn spoiled(packing: Compression, spoil: impl FnOnce(&mut Vec<u8>)) -> Result<Image> {
    let image = ImageBuilder::new()
        .layer(Layer::new().file("first", b"fine"))
        .layer_as(packing, Layer::new().random_file("big", 300_000, 7))
        .build();
    let mut bytes = image.blobs[&image.layers[1].digest].to_vec();
    spoil(&mut bytes);
    with_layer_blob(&image, 1, bytes)
}

async fn spoiled_is_refused(stage: &Stage, image: &Image, says: &[&str]) -> Result<()> {
    let digest = image.layers[1].digest.to_string();
    let says: Vec<&str> = says.iter().copied().chain([digest.as_str()]).collect();
    image_refused(stage, image, Faults::none(), &says).await
}

async fn corrupt_gzip(stage: Stage) -> Result<()> {
    let image = spoiled(Compression::Gzip, |bytes| bytes[1000..1100].fill(0xff))?;
    spoiled_is_refused(&stage, &image, &[]).await
}

async fn truncated_gzip(stage: Stage) -> Result<()> {
    let image = spoiled(Compression::Gzip, |bytes| bytes.truncate(150_000))?;
    spoiled_is_refused(&stage, &image, &["gzip"]).await
}

async fn corrupt_zstd(stage: Stage) -> Result<()> {
    let image = spoiled(Compression::Zstd, |bytes| bytes[..40].iter_mut().skip(4).for_each(|byte| *byte ^= 0x55))?;
    spoiled_is_refused(&stage, &image, &[]).await
}

async fn truncated_zstd(stage: Stage) -> Result<()> {
    let image = spoiled(Compression::Zstd, |bytes| bytes.truncate(150_000))?;
    spoiled_is_refused(&stage, &image, &["zstd"]).await
}

async fn bytes_of_no_format(stage: Stage) -> Result<()> {
    let image = spoiled(Compression::None, |bytes| *bytes = b"this is a text and no layer ".repeat(1000))?;
    spoiled_is_refused(&stage, &image, &[]).await
}

async fn truncated_tar(stage: Stage) -> Result<()> {
    let image = spoiled(Compression::None, |bytes| bytes.truncate(150_000))?;
    spoiled_is_refused(&stage, &image, &[]).await
}

async fn wrong_diff_id(stage: Stage) -> Result<()> {
    let image = good_image().wrong_diff_id(1).build();
    let wrong = image.diff_ids[1].to_string();
    image_refused(&stage, &image, Faults::none(), &[&wrong]).await
}
