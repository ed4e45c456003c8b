//! Bad input, one test for each: the error names the thing, the place and the remedy, the exit code is not zero, and the
//! store is sound afterwards.

mod blobs;
mod compression;
mod disk;
mod documents;
mod escape;
mod network;
mod permissions;

use anyhow::Result;
use berth_testing::{
    hostile::{Faults, HostileRegistry},
    image::{Image, ImageBuilder, Layer},
    shape::Stage,
};

use crate::store::check_sound;

/// An image of two small layers that nobody can object to.
fn good_image() -> ImageBuilder {
    ImageBuilder::new()
        .layer(Layer::new().dir("etc").file("etc/motd", b"hello"))
        .layer(Layer::new().random_file("big", 300_000, 7))
}

/// A registry with this image, and the reference to it.
async fn serving(image: &Image, faults: Faults) -> (HostileRegistry, String) {
    let registry = HostileRegistry::start(faults).await;
    registry.add_image("app", "v1", image);
    let reference = registry.reference("app", "v1");
    (registry, reference)
}

/// The pull fails and says all of this (in any case of letters); what is left is sound.
async fn refused(stage: &Stage, args: &[&str], reference: &str, says: &[&str]) -> Result<()> {
    let mut all = vec!["pull", "--plain-http"];
    all.extend(args);
    all.push(reference);
    let said = stage.fails(&all)?;
    let lower = said.to_lowercase();
    for word in says {
        assert!(lower.contains(&word.to_lowercase()), "{word:?} in what it said: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    check_sound(stage).await
}

/// The image, served by a registry that misbehaves, is refused.
async fn image_refused(stage: &Stage, image: &Image, faults: Faults, says: &[&str]) -> Result<()> {
    let (_registry, reference) = serving(image, faults).await;
    refused(stage, &[], &reference, says).await
}
