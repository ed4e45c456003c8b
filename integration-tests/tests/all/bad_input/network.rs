//! Registries that are not there, do not know the image, or do not know who asks.

use anyhow::Result;
use berth_integration_tests::image::push;
use berth_testing::{docker_registry::DockerRegistry, port::Port, shape::Stage};

use super::{good_image, refused};

in_every_shape! {
    unknown_host,
    refused_connection,
    no_such_repository,
    no_such_tag,
    no_such_digest,
    login_wanted_and_none_given,
    login_wrong,
    no_reference_at_all,
}

async fn unknown_host(stage: Stage) -> Result<()> {
    let reference = "registry.invalid/app:v1";
    refused(&stage, &[], reference, &["registry.invalid", "name"]).await
}

async fn refused_connection(stage: Stage) -> Result<()> {
    let port = Port::reserve()?;
    let place = format!("127.0.0.1:{}", port.number());
    refused(&stage, &[], &format!("{place}/app:v1"), &[&place, "refused"]).await
}

async fn no_such_repository(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let reference = format!("{}/nobody/has-this:v1", registry.host());
    refused(&stage, &[], &reference, &[&reference, "404", "does not exist"]).await
}

async fn no_such_tag(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    push(&good_image().build(), &registry, "app", "v1").await?;
    let reference = format!("{}/app:v2", registry.host());
    refused(&stage, &[], &reference, &[&reference, "404", "does not exist"]).await
}

async fn no_such_digest(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    push(&good_image().build(), &registry, "app", "v1").await?;
    let reference = format!("{}/app@{}", registry.host(), berth_model::Digest::of(b"nothing"));
    refused(&stage, &[], &reference, &[&reference, "404", "does not exist"]).await
}

async fn login_wanted_and_none_given(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start_with_login("anna", "secret")?;
    let reference = push(&good_image().build(), &registry, "app", "v1").await?;
    refused(&stage, &[], &reference, &[&registry.host(), "--user"]).await
}

async fn login_wrong(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start_with_login("anna", "secret")?;
    let reference = push(&good_image().build(), &registry, "app", "v1").await?;
    let args = ["--user", "anna:not-it"];
    refused(&stage, &args, &reference, &[&registry.host(), "anna"]).await
}

async fn no_reference_at_all(stage: Stage) -> Result<()> {
    refused(&stage, &[], "Not A Reference", &["Not A Reference"]).await?;
    Ok(())
}
