//! Blobs that are not what their descriptor says.

use anyhow::Result;
use berth_testing::{
    hostile::{Fault, Faults},
    image::Image,
    shape::Stage,
};

use super::{good_image, image_refused};

in_every_shape! {
    wrong_bytes,
    wrong_bytes_in_the_config,
    missing_at_the_registry,
    shorter_than_the_descriptor,
    longer_than_the_descriptor,
    longer_than_the_descriptor_without_a_length,
    cut_off_every_time,
}

fn path_of_layer(image: &Image) -> String {
    format!("/blobs/{}", image.layers[1].digest)
}

async fn with_fault(stage: &Stage, fault: Fault, says: &[&str]) -> Result<()> {
    let image = good_image().build();
    let digest = image.layers[1].digest.to_string();
    let says: Vec<&str> = says.iter().copied().chain([digest.as_str()]).collect();
    image_refused(stage, &image, Faults::none().always(&path_of_layer(&image), fault), &says).await
}

async fn wrong_bytes(stage: Stage) -> Result<()> {
    with_fault(&stage, Fault::Corrupt(200_000), &["digest"]).await
}

async fn wrong_bytes_in_the_config(stage: Stage) -> Result<()> {
    let image = good_image().build();
    let path = format!("/blobs/{}", image.config.digest);
    let digest = image.config.digest.to_string();
    image_refused(&stage, &image, Faults::none().always(&path, Fault::Corrupt(5)), &["digest", &digest]).await
}

async fn missing_at_the_registry(stage: Stage) -> Result<()> {
    let body = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    with_fault(&stage, Fault::Status(404, body.to_owned()), &["404", "does not exist"]).await
}

async fn shorter_than_the_descriptor(stage: Stage) -> Result<()> {
    let image = good_image().wrong_layer_size(1, 10).build();
    let digest = image.layers[1].digest.to_string();
    image_refused(&stage, &image, Faults::none(), &[&digest, "bytes"]).await
}

async fn longer_than_the_descriptor(stage: Stage) -> Result<()> {
    let image = good_image().wrong_layer_size(1, -10).build();
    let digest = image.layers[1].digest.to_string();
    image_refused(&stage, &image, Faults::none(), &[&digest, "bytes"]).await
}

async fn longer_than_the_descriptor_without_a_length(stage: Stage) -> Result<()> {
    let image = good_image().wrong_layer_size(1, -10).build();
    let digest = image.layers[1].digest.to_string();
    let faults = Faults::none().always(&path_of_layer(&image), Fault::NoLength);
    image_refused(&stage, &image, faults, &[&digest, "bytes"]).await
}

/// It never gets further than the first bytes: the retries come to an end.
async fn cut_off_every_time(stage: Stage) -> Result<()> {
    with_fault(&stage, Fault::Status(503, "{}".to_owned()), &["503"]).await
}
