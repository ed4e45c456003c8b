//! Pulls from a real registry: every format of images, and what the store holds after them.

use std::{path::Path, time::Duration};

use anyhow::Result;
use berth_integration_tests::{
    access::Access,
    facts::{Mounted, blobs, image_names, snapshots},
    image::{digests, push, with_manifest},
};
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    hostile::{Auth, Fault, Faults, HostileRegistry},
    image::{Compression, Image, ImageBuilder, Layer, index},
    shape::{Shape, Stage},
    wait::wait_until,
};
use serde_json::json;

in_every_shape! {
    an_oci_image_is_pulled_and_mountable,
    a_docker_image_is_pulled,
    the_platform_chooses_from_an_index,
    a_manifest_list_is_pulled,
    layers_are_told_apart_by_their_bytes,
    the_second_pull_fetches_nothing,
    the_second_pull_does_not_search_the_disk,
    equal_layers_in_other_blobs_are_all_there,
    a_login_is_asked_for_and_used,
    a_token_is_fetched_and_a_redirect_followed,
    what_is_small_shares_a_connection_by_http_2,
    a_large_layer_comes_from_afar_in_pieces,
    a_digest_names_an_image,
    only_fetched_means_no_snapshots,
    labels_point_from_content_to_content,
    an_image_of_no_layers_is_pulled,
    namespaces_see_their_own_images,
}

/// Two layers; the second changes what the first has.
fn small_image() -> ImageBuilder {
    ImageBuilder::new()
        .layer(Layer::new().dir("etc").file("etc/motd", b"hello").file("gone", b"soon"))
        .layer_as(Compression::Zstd, Layer::new().whiteout("gone").file("etc/issue", b"berth"))
}

fn check_mounted(stage: &Stage, reference: &str) -> Result<()> {
    let mounted = Mounted::new(stage, reference, &[])?;
    let read = |path: &str| std::fs::read_to_string(mounted.path().join(path));
    assert_eq!(read("etc/motd")?, "hello");
    assert_eq!(read("etc/issue")?, "berth");
    assert!(!mounted.path().join("gone").exists());
    Ok(())
}

async fn an_oci_image_is_pulled_and_mountable(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = small_image().build();
    let reference = push(&image, &registry, "team/app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(image_names(&stage)?, [reference.as_str()]);
    assert_eq!(blobs(&stage)?, digests(&image));
    assert_eq!(snapshots(&stage)?.len(), 2);
    check_mounted(&stage, &reference)
}

async fn a_docker_image_is_pulled(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = small_image().docker().build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(blobs(&stage)?, digests(&image));
    check_mounted(&stage, &reference)
}

fn for_two_platforms() -> (Image, Image) {
    let other = ImageBuilder::new().platform("linux/arm/v7").layer(Layer::new().file("arm", b"other"));
    (small_image().build(), other.build())
}

async fn the_platform_chooses_from_an_index(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let (ours, other) = for_two_platforms();
    let both = index(&[other.clone(), ours.clone()]);
    let reference = push(&both, &registry, "app", "multi").await?;

    stage.ok(["pull", "--plain-http", &reference])?;
    let mut expected = digests(&ours);
    expected.push(both.target.digest.to_string());
    expected.sort();
    assert_eq!(blobs(&stage)?, expected, "the index and this machine's image");
    check_mounted(&stage, &reference)?;

    stage.ok(["pull", "--plain-http", "--platform", "linux/arm/v7", &reference])?;
    expected.extend(digests(&other));
    expected.sort();
    assert_eq!(blobs(&stage)?, expected, "the other image too");
    Ok(())
}

async fn a_manifest_list_is_pulled(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let ours = small_image().docker().build();
    let other = ImageBuilder::new().docker().platform("linux/s390x").layer(Layer::new().file("z", b"other"));
    let reference = push(&index(&[other.build(), ours]), &registry, "app", "multi").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    check_mounted(&stage, &reference)
}

async fn layers_are_told_apart_by_their_bytes(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let file = |name: &str| Layer::new().file(name, name.as_bytes());
    let honest = ImageBuilder::new()
        .layer_as(Compression::Gzip, file("gzip"))
        .layer_as(Compression::Zstd, file("zstd"))
        .layer_as(Compression::None, file("plain"))
        .layer_as(Compression::Gzip, file("gzip-again"))
        .build();
    let lies = [Compression::Zstd, Compression::None, Compression::Gzip, Compression::None];
    let lying = with_manifest(&honest, |manifest| {
        for (layer, lie) in manifest["layers"].as_array_mut().unwrap().iter_mut().zip(lies) {
            layer["mediaType"] = json!(lie.media_type(false));
        }
    })?;
    for (image, tag) in [(honest, "honest"), (lying, "lying")] {
        let reference = push(&image, &registry, "app", tag).await?;
        // Each into a namespace of its own, so that each is unpacked.
        stage.ok(["--namespace", tag, "pull", "--plain-http", &reference])?;
        let shown = stage.ok(["--namespace", tag, "snapshots", "ls", "--quiet"])?;
        assert_eq!(shown.lines().count(), 4, "{tag}: {shown}");
    }
    Ok(())
}

/// One HEAD says that the manifest is the same.
async fn the_second_pull_fetches_nothing(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let reference = push(&small_image().build(), &registry, "app", "v1").await?;
    // It logs what it has answered, so the last line may be late.
    let limit = Duration::from_secs(20);
    let requests =
        || registry.log().lines().filter(|line| line.contains(" /v2/")).map(str::to_owned).collect::<Vec<_>>();
    let fetched = || registry.requests("\"GET /v2/app/blobs/");
    stage.ok(["pull", "--plain-http", &reference])?;
    wait_until("config and two layers", limit, || fetched() >= 3, || registry.log());
    assert_eq!(fetched(), 3, "each once:\n{}", registry.log());

    let before = requests().len();
    stage.ok(["pull", "--plain-http", &reference])?;
    let since = || requests().split_off(before);
    wait_until("the request of the second pull", limit, || !since().is_empty(), || registry.log());
    let asked = since();
    assert!(
        asked.len() == 1 && asked[0].contains("\"HEAD /v2/app/manifests/v1 "),
        "one HEAD, nothing else: {asked:#?}"
    );
    Ok(())
}

/// Records tell what is there.
async fn the_second_pull_does_not_search_the_disk(stage: Stage) -> Result<()> {
    // A collection lists directories.
    let shape = stage.shape();
    drop(stage);
    let stage = Stage::start_on(shape, Berth::new()?.collecting_only_on_demand()?)?;
    let registry = DockerRegistry::start()?;
    let image = small_image().build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let access = Access::watch(stage.root())?;
    stage.ok(["pull", "--plain-http", &reference])?;
    check_not_searched(&stage, &image, &access.read());
    Ok(())
}

/// Nothing was read of layers, packed or unpacked, and no directory was listed, unless services started.
fn check_not_searched(stage: &Stage, image: &Image, read: &[&Path]) {
    let (blobs, snapshots) = (stage.root().join("content/blobs/sha256"), stage.root().join("snapshots"));
    assert!(blobs.is_dir() && snapshots.is_dir(), "that is where they are");
    for path in read {
        let is_layer = image.layers.iter().any(|layer| **path == blobs.join(layer.digest.hex()));
        assert!(!is_layer && !path.starts_with(&snapshots), "{} was read; {read:#?}", path.display());
        assert!(!path.is_dir() || stage.shape() == Shape::Alone, "{} was listed; {read:#?}", path.display());
    }
}

/// The missing-blobs rule: the second image finds its snapshots there, and all of its blobs are fetched all the same.
async fn equal_layers_in_other_blobs_are_all_there(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let layers = [Layer::new().dir("etc").file("etc/motd", b"hello"), Layer::new().file("etc/issue", b"berth")];
    let in_form =
        |form| layers.iter().fold(ImageBuilder::new(), |image, layer| image.layer_as(form, layer.clone())).build();
    let (first, second) = (in_form(Compression::Gzip), in_form(Compression::Zstd));
    assert_eq!(first.diff_ids, second.diff_ids);
    let mut expected = Vec::new();
    for (image, tag) in [(&first, "gzip"), (&second, "zstd")] {
        let reference = push(image, &registry, "app", tag).await?;
        stage.ok(["pull", "--plain-http", &reference])?;
        expected.extend(digests(image));
        expected.sort();
        expected.dedup();
        assert_eq!(blobs(&stage)?, expected, "after {tag}");
        assert_eq!(snapshots(&stage)?.len(), 2, "after {tag}");
    }
    Ok(())
}

async fn a_login_is_asked_for_and_used(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start_with_login("anna", "s3cret:with:colons")?;
    let reference = push(&small_image().build(), &registry, "private/app", "v1").await?;
    let said = stage.fails(["pull", "--plain-http", &reference])?;
    assert!(said.contains("--user"), "names the remedy: {said}");
    let said = stage.fails(["pull", "--plain-http", "--user", "anna:wrong", &reference])?;
    assert!(!said.contains("wrong"), "never shows the password: {said}");
    stage.ok(["pull", "--plain-http", "--user", "anna:s3cret:with:colons", &reference])?;
    check_mounted(&stage, &reference)
}

/// As the big registries have it: a token for whoever asks, and blobs on another host, which never sees the token.
async fn a_token_is_fetched_and_a_redirect_followed(stage: Stage) -> Result<()> {
    let image = small_image().build();
    let registry = HostileRegistry::start(Faults::none().always("/v2/app/blobs/", Fault::ToCdn)).await;
    registry.require(Auth::TokenForAnybody);
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    stage.ok(["pull", "--plain-http", &reference])?;
    check_mounted(&stage, &reference)?;
    let elsewhere = registry.seen().into_iter().filter(|request| request.cdn).collect::<Vec<_>>();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|request| request.authorization.is_none()), "{elsewhere:?}");
    Ok(())
}

/// Where the registry has it. How large layers come is the fetcher's own test's affair: it depends on how far this registry
/// seems to be.
async fn what_is_small_shares_a_connection_by_http_2(stage: Stage) -> Result<()> {
    let mut registry = DockerRegistry::start()?;
    let large = Layer::new().random_file("large", 2 << 20, 1);
    let image = (0..20)
        .fold(small_image().layer_as(Compression::None, large), |image, n| {
            image.layer(Layer::new().file(&format!("file-{n}"), b"small"))
        })
        .build();
    let reference = push(&image, &registry, "app", "v1").await?;
    registry.speak_tls()?;
    let before = registry.log().lines().count();
    stage.ok(["pull", &reference])?;
    check_mounted(&stage, &reference)?;
    let largest = image.layers.iter().max_by_key(|layer| layer.size).unwrap().digest.to_string();
    let log = registry.log();
    let asked = |line: &&str| line.contains("\"GET /v2/app/") && !line.contains(&largest);
    let small: Vec<&str> = log.lines().skip(before).filter(asked).collect();
    assert!(small.len() >= 20 && small.iter().all(|line| line.contains(" HTTP/2.0\"")), "{small:#?}");
    Ok(())
}

/// Several connections bring what one alone would take long for, and each byte comes once.
async fn a_large_layer_comes_from_afar_in_pieces(stage: Stage) -> Result<()> {
    let large = Layer::new().random_file("large", 18 << 20, 1);
    let image = small_image().layer_as(Compression::None, large).build();
    let registry = HostileRegistry::start(Faults::none().always("/", Fault::Late(Duration::from_millis(20)))).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");
    stage.ok(["pull", "--plain-http", &reference])?;
    check_mounted(&stage, &reference)?;
    assert_eq!(blobs(&stage)?, digests(&image));
    let layer = image.layers.iter().max_by_key(|layer| layer.size).unwrap();
    let mut ranges: Vec<_> = registry.seen_at(&layer.digest.to_string()).into_iter().map(|seen| seen.range).collect();
    ranges.sort();
    // Of several fetchers one may not know yet how far the registry is.
    if ranges.len() > 1 || stage.shape() != Shape::Nats {
        let pieces = (0..layer.size).step_by(4 << 20).map(|from| (from, layer.size.min(from + (4 << 20)) - 1));
        let mut expected: Vec<_> = pieces.map(|(from, last)| Some(format!("bytes={from}-{last}"))).collect();
        expected.sort();
        assert_eq!(ranges, expected);
    }
    Ok(())
}

async fn a_digest_names_an_image(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = small_image().build();
    push(&image, &registry, "app", "v1").await?;
    let reference = format!("{}/app@{}", registry.host(), image.target.digest);
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(image_names(&stage)?, [reference.as_str()]);
    check_mounted(&stage, &reference)
}

async fn only_fetched_means_no_snapshots(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = small_image().build();
    let reference = push(&image, &registry, "app", "v1").await?;
    stage.ok(["pull", "--plain-http", "--no-unpack", &reference])?;
    assert_eq!(blobs(&stage)?, digests(&image));
    assert_eq!(snapshots(&stage)?, Vec::<String>::new());
    // What was only fetched is unpacked by the next pull, without fetching.
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(registry.requests("\"GET /v2/app/blobs/"), 3, "{}", registry.log());
    check_mounted(&stage, &reference)
}

async fn labels_point_from_content_to_content(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let image = small_image().build();
    let reference = push(&image, &registry, "team/app", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let labels = |digest: &berth_model::Digest| -> Result<serde_json::Value> {
        Ok(stage.json(["content", "info", &digest.to_string()])?["labels"].clone())
    };
    let manifest = labels(&image.manifest.digest)?;
    assert_eq!(manifest["containerd.io/gc.ref.content.config"], json!(image.config.digest.to_string()));
    assert_eq!(manifest["containerd.io/gc.ref.content.l.0"], json!(image.layers[0].digest.to_string()));
    assert_eq!(manifest["containerd.io/gc.ref.content.l.1"], json!(image.layers[1].digest.to_string()));
    assert_eq!(manifest["containerd.io/distribution.source.127.0.0.1"], json!("team/app"));
    let layer = labels(&image.layers[1].digest)?;
    assert_eq!(layer["containerd.io/uncompressed"], json!(image.diff_ids[1].to_string()));
    assert_eq!(layer["containerd.io/distribution.source.127.0.0.1"], json!("team/app"));
    let chain = berth_model::chain_ids(&image.diff_ids).pop().unwrap();
    let config = labels(&image.config.digest)?;
    assert_eq!(config["containerd.io/gc.ref.snapshot.overlayfs"], json!(chain.to_string()));
    Ok(())
}

async fn an_image_of_no_layers_is_pulled(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let reference = push(&ImageBuilder::new().build(), &registry, "empty", "v1").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    assert_eq!(image_names(&stage)?, [reference]);
    Ok(())
}

async fn namespaces_see_their_own_images(stage: Stage) -> Result<()> {
    let registry = DockerRegistry::start()?;
    let reference = push(&small_image().build(), &registry, "app", "v1").await?;
    stage.ok(["--namespace", "one", "pull", "--plain-http", &reference])?;
    assert_eq!(image_names(&stage)?, Vec::<String>::new());
    stage.ok(["--namespace", "two", "pull", "--plain-http", &reference])?;
    assert_eq!(registry.requests("\"GET /v2/app/blobs/"), 3, "equal bytes are fetched once:\n{}", registry.log());
    Ok(())
}
