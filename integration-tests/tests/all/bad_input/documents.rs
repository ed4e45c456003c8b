//! Manifests, indexes and configs that make no sense.

use anyhow::Result;
use berth_integration_tests::image::with_manifest;
use berth_testing::{
    hostile::{Faults, HostileRegistry},
    image::{ImageBuilder, Layer, index},
    shape::Stage,
};
use serde_json::json;

use super::{good_image, image_refused, refused};

in_every_shape! {
    a_manifest_that_is_no_json,
    a_manifest_of_unknown_type,
    a_docker_schema_1_manifest,
    a_manifest_without_config,
    a_config_that_is_no_json,
    no_manifest_for_the_platform,
    fewer_diff_ids_than_layers,
    more_diff_ids_than_layers,
    a_digest_that_is_none,
}

async fn document_refused(stage: &Stage, media_type: &str, bytes: &[u8], says: &[&str]) -> Result<()> {
    let registry = HostileRegistry::start(Faults::none()).await;
    let document = registry.add_manifest("app", "v1", media_type, bytes.to_vec());
    let digest = document.digest.to_string();
    let says: Vec<&str> = says.iter().copied().chain([digest.as_str()]).collect();
    refused(stage, &[], &registry.reference("app", "v1"), &says).await
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

async fn a_manifest_that_is_no_json(stage: Stage) -> Result<()> {
    document_refused(&stage, MANIFEST, b"<html>It works!</html>", &["manifest"]).await
}

async fn a_manifest_of_unknown_type(stage: Stage) -> Result<()> {
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.example.tea+json" });
    let bytes = manifest.to_string().into_bytes();
    document_refused(&stage, "application/vnd.example.tea+json", &bytes, &["application/vnd.example.tea+json"]).await
}

async fn a_docker_schema_1_manifest(stage: Stage) -> Result<()> {
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    document_refused(&stage, kind, br#"{"schemaVersion":1,"name":"app","tag":"v1"}"#, &["schema 1"]).await
}

async fn a_manifest_without_config(stage: Stage) -> Result<()> {
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [] });
    document_refused(&stage, MANIFEST, manifest.to_string().as_bytes(), &["config"]).await
}

async fn a_config_that_is_no_json(stage: Stage) -> Result<()> {
    let registry = HostileRegistry::start(Faults::none()).await;
    let bytes = b"no json at all".to_vec();
    let config = registry.add_blob(bytes.clone());
    let good = good_image().build();
    let image = with_manifest(&good, |manifest| {
        manifest["config"]["digest"] = json!(config.to_string());
        manifest["config"]["size"] = json!(bytes.len());
    })?;
    registry.add_image("app", "v1", &image);
    refused(&stage, &[], &registry.reference("app", "v1"), &["config", &config.to_string()]).await
}

async fn no_manifest_for_the_platform(stage: Stage) -> Result<()> {
    let other = |name: &str| ImageBuilder::new().platform(name).layer(Layer::new().file("a", b"x")).build();
    let image = index(&[other("linux/s390x"), other("linux/arm/v7")]);
    image_refused(&stage, &image, Faults::none(), &["linux/s390x", "linux/arm/v7", "platform"]).await
}

async fn fewer_diff_ids_than_layers(stage: Stage) -> Result<()> {
    // The config of an image with one layer, and a manifest with that layer twice.
    let one = ImageBuilder::new().layer(Layer::new().file("a", b"x")).build();
    let image = with_manifest(&one, |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"].as_array_mut().unwrap().push(layer);
    })?;
    image_refused(&stage, &image, Faults::none(), &["2 layers", "1 diff id"]).await
}

async fn more_diff_ids_than_layers(stage: Stage) -> Result<()> {
    let image = good_image().extra_diff_ids(1).build();
    image_refused(&stage, &image, Faults::none(), &["2 layers", "3 diff ids"]).await
}

async fn a_digest_that_is_none(stage: Stage) -> Result<()> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:../../../etc/passwd", "size": 2 },
        "layers": [],
    });
    document_refused(&stage, MANIFEST, manifest.to_string().as_bytes(), &["digest"]).await
}
