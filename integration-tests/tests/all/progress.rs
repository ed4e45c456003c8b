//! What a pull says while it runs: to a person at a terminal, to a log, to a program, and to one who wants no words.

use std::process::Command;

use anyhow::Result;
use berth_integration_tests::image::push;
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
    running::Running,
    shape::{Shape, Stage},
};
use serde_json::Value;

async fn ready() -> Result<(Stage, DockerRegistry, Image, String)> {
    let stage = Stage::start(Shape::Alone)?;
    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new()
        .layer(Layer::new().random_file("a", 1 << 20, 1))
        .layer(Layer::new().file("b", b"x"))
        .build();
    let reference = push(&image, &registry, "app", "v1").await?;
    Ok((stage, registry, image, reference))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_lines_when_nobody_looks() -> Result<()> {
    let (stage, _registry, image, reference) = ready().await?;
    let first = stage.run(["pull", "--plain-http", &reference])?;
    assert!(!first.stderr.contains('\x1b') && !first.stderr.contains('\r'), "{}", first.stderr);
    for blob in [&image.config, &image.layers[0], &image.layers[1]] {
        let short = blob.digest.short();
        let lines: Vec<_> = first.stderr.lines().filter(|line| line.contains(&short)).collect();
        assert!(lines.last().is_some_and(|line| line.contains("done")), "{short}: {lines:?}");
    }
    let second = stage.run(["pull", "--plain-http", &reference])?;
    assert!(second.stderr.contains("exists"), "{}", second.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_for_each_blob_on_a_terminal() -> Result<()> {
    let (stage, _registry, image, reference) = ready().await?;
    let inner = stage.command(["pull", "--plain-http", &reference]);
    let words = std::iter::once(inner.get_program()).chain(inner.get_args()).map(|word| word.to_string_lossy());
    // `script` gives the command a terminal.
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &words.collect::<Vec<_>>().join(" "), "/dev/null"])
        .env("TERM", "xterm");
    let done = Running::start(command)?.finish()?;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("\x1b["), "lines are drawn again in place: {:?}", done.stdout);
    for layer in &image.layers {
        assert!(done.stdout.contains(&layer.digest.short()), "{:?}", done.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_as_json() -> Result<()> {
    let (stage, _registry, image, reference) = ready().await?;
    let text = stage.ok(["pull", "--plain-http", "--json", &reference])?;
    let states = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let last = states.last().unwrap();
    assert_eq!(last["phase"], Value::from("done"), "{last:#}");
    assert!(last.to_string().contains(&image.target.digest.to_string()), "{last:#}");
    let failed = stage.run(["pull", "--plain-http", "--json", "127.0.0.1:1/app:v1"])?;
    assert!(failed.code > 0);
    for line in failed.stdout.lines() {
        serde_json::from_str::<Value>(line)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_digest_when_quiet() -> Result<()> {
    let (stage, _registry, image, reference) = ready().await?;
    let done = stage.run(["pull", "--plain-http", "--quiet", &reference])?;
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert_eq!(done.stdout.trim(), image.target.digest.to_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_teaches_and_versions_are_told() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let help = stage.ok(["pull", "--help"])?;
    assert!(help.contains("Examples:") && help.contains("--plain-http"), "{help}");
    let version = stage.ok(["version"])?;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for alias in [["i", "ls"], ["image", "list"], ["snapshot", "ls"], ["content", "list"]] {
        stage.ok(alias)?;
    }
    Ok(())
}
