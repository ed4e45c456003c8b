//! Bits that flip on the disk: noticed, named, and healed or refused; never served.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use berth_integration_tests::{
    facts::{blobs, image_names, snapshots},
    image::push,
};
use berth_testing::{
    berth::Berth,
    docker_registry::DockerRegistry,
    image::{Image, ImageBuilder, Layer},
    shape::{Shape, Stage},
};

fn image(tag: &str) -> Image {
    ImageBuilder::new()
        .layer(Layer::new().dir("base").random_file("base/file", 200_000, 1))
        .layer(Layer::new().file("top", tag.as_bytes()).file("more", &b"more ".repeat(1000)))
        .build()
}

/// Flips one bit of the byte at this place.
fn flip(path: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    *bytes.get_mut(at).with_context(|| format!("{} has no byte {at}", path.display()))? ^= 0x10;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    fs::write(path, bytes)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-a").args([from, to]).output()?;
    ensure!(done.status.success(), "cp: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// What a store shows of itself.
type Shown = [Vec<String>; 3];

fn shown(berth: &Berth) -> Result<Shown> {
    Ok([image_names(berth)?, blobs(berth)?, snapshots(berth)?])
}

/// The same, where a command may fail; `None`: it did, and said that the store is damaged, and which.
fn shown_or_refused(berth: &Berth, damaged: &Path) -> Result<Option<Shown>> {
    let mut all = Shown::default();
    for (what, place) in ["images", "content", "snapshots"].iter().zip(&mut all) {
        let said = berth.run([*what, "ls", "--quiet"])?;
        if said.code != 0 {
            let store = damaged.parent().unwrap().to_str().unwrap();
            assert!(said.stderr.contains(store), "{}: names the store: {}", damaged.display(), said.stderr);
            assert!(said.stderr.contains("damaged"), "{}: says what it is: {}", damaged.display(), said.stderr);
            return Ok(None);
        }
        *place = said.stdout.lines().map(str::to_owned).collect();
        place.sort();
    }
    Ok(Some(all))
}

/// A store with some history: records in tables and in logs. The program that held it was killed.
async fn used_store() -> Result<(Stage, Shown)> {
    let mut stage = Stage::start(Shape::Daemon)?;
    let registry = DockerRegistry::start()?;
    for tag in ["one", "two", "three"] {
        let reference = push(&image(tag), &registry, "app", tag).await?;
        stage.ok(["pull", "--plain-http", &reference])?;
        // Opening writes the records that are only in the log into tables.
        stage.kill("daemon");
        stage.serve("daemon", &[])?;
        stage.wait_until_ready();
    }
    let reference = push(&image("four"), &registry, "app", "four").await?;
    stage.ok(["pull", "--plain-http", &reference])?;
    let before = shown(&stage)?;
    stage.kill("daemon");
    Ok((stage, before))
}

/// The files of a database, largest first, that hold something.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_data =
            name.ends_with(".sst") || name.ends_with(".log") || name.starts_with("MANIFEST") || name == "CURRENT";
        let length = entry.metadata()?.len();
        if is_data && length > 0 {
            files.push((length, entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().rev().map(|(_, path)| path).collect())
}

/// Whatever bit of a database flips: what the store shows is right, or it is refused.
async fn in_a_database(database: &str) -> Result<()> {
    let (stage, before) = used_store().await?;
    let mut refused = 0;
    let mut cases = 0;
    for file in files(&stage.root().join(database))? {
        let length = usize::try_from(fs::metadata(&file)?.len())?;
        for part in [3, 8] {
            let at = (length - 1) * part / 8;
            let case = Berth::new()?;
            copy(stage.root(), case.root())?;
            let damaged = case.root().join(database).join(file.file_name().unwrap());
            flip(&damaged, at)?;
            cases += 1;
            match shown_or_refused(&case, &damaged)? {
                None => refused += 1,
                Some(after) => assert_eq!(after, before, "byte {at} of {length} of {}", file.display()),
            }
        }
    }
    assert!(cases > 5 && refused * 2 > cases, "{refused} of {cases} were noticed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_records() -> Result<()> {
    in_a_database("metadata").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_list_of_blobs() -> Result<()> {
    in_a_database("content/db").await
}

/// A blob whose bytes changed is not handed out as what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_blob() -> Result<()> {
    let stage = Stage::start(Shape::Daemon)?;
    let registry = DockerRegistry::start()?;
    let image = image("one");
    stage.ok(["pull", "--plain-http", &push(&image, &registry, "app", "v1").await?])?;
    for descriptor in [&image.target, &image.config, &image.layers[0]] {
        let digest = descriptor.digest.to_string();
        let whole = stage.run(["content", "get", &digest])?;
        assert_eq!(whole.code, 0, "{}", whole.stderr);
        flip(&stage.root().join("content/blobs/sha256").join(descriptor.digest.hex()), 77)?;
        let said = stage.fails(["content", "get", &digest])?;
        assert!(said.contains(&digest) && said.contains("damaged"), "{said}");
    }
    Ok(())
}
