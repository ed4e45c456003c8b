//! The benchmark: its numbers, and what its `--check` says of pulls that are as they should be, and of one that is not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use anyhow::Result;
use berth_integration_tests::{
    image::{packed, push, write_layout},
    layer::{Entry, layer},
};
use berth_testing::{
    berth,
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
};
use serde_json::Value;

fn bench(options: &[&str], programs: &[&Path], peers: &str, image: &str) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(options).args(["--disk", "1", "--peers", peers]);
    for program in programs {
        command.arg("--berth").arg(program);
    }
    Ok(command.arg(image).output()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_is_fast_and_right_or_it_is_told() -> Result<()> {
    let layers = [
        layer([
            Entry::dir("./").mtime("1650000000.25"),
            Entry::dir("usr").mode(0o750).owner(3, 4).mtime("1600000001.5"),
            Entry::file("usr/old", "old"),
            Entry::file("usr/kept", "kept").mode(0o4640).owner(5, 6),
            Entry::symlink("lib", "usr/lib"),
        ])?,
        layer([
            Entry::whiteout("usr/old"),
            Entry::file("new", "new").xattr("user.note", "a"),
            Entry::hard_link("linked", "new"),
        ])?,
    ];
    let registry = DockerRegistry::start()?;
    let packed = packed(&layers);
    let image = push(&packed, &registry, "app", "v1").await?;
    let berth = berth::binary();

    let done = bench(&["--check"], &[&berth], "berth,daemon,nats", &image)?;
    let said = String::from_utf8(done.stdout)?;
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    for peer in ["berth", "daemon", "nats"] {
        let line = format!("{image}, loopback, {peer}: same: 6 entries, 4 blobs\n");
        assert!(said.contains(&line), "{said}");
    }

    // A program that is faster, because it cuts a file off, and damages what it keeps.
    let scratch = tempfile::tempdir()?;
    let faster = scratch.path().join("faster");
    let blob = packed.layers[1].digest;
    let script = format!(
        "#!/bin/sh\n{berth:?} \"$@\" || exit\ncase $* in\n*' pull '*)\n\
         find \"$2\" -path '*/usr/kept' -exec truncate -s 1 {{}} +\n\
         echo >>\"$2/content/blobs/sha256/{}\" ;;\nesac\n",
        blob.hex()
    );
    fs::write(&faster, script)?;
    fs::set_permissions(&faster, fs::Permissions::from_mode(0o755))?;
    let done = bench(&["--check"], &[&berth, &faster], "berth", &image)?;
    let said = String::from_utf8(done.stdout)?;
    assert!(!done.status.success(), "{said}");
    assert!(said.contains("loopback, berth: same"), "{said}");
    assert!(said.contains("/usr/kept: size should be 4 and is 1;"), "{said}");
    assert!(said.contains(&format!("{blob} hashes to sha256:")), "{said}");
    Ok(())
}

#[test]
fn numbers_of_a_layout_over_tls_say_what_they_are_of() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (layout, numbers) = (scratch.path().join("App"), scratch.path().join("numbers.json"));
    write_layout(&ImageBuilder::new().layer(Layer::new().file("etc/motd", b"hello")).build(), &layout, "v1")?;
    let options = ["--tls", "--rounds", "1", "--json", &numbers.display().to_string()];
    let done = bench(&options, &[&berth::binary()], "berth", &format!("oci:{}:v1", layout.display()))?;
    let said = String::from_utf8(done.stdout)?;
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.starts_with("App:v1, loopback, TLS with HTTP/2\n"), "{said}");

    let numbers: Value = serde_json::from_slice(&fs::read(&numbers)?)?;
    let text = |at: &str| numbers.pointer(at).and_then(Value::as_str).unwrap_or_default();
    assert!(text("/date").parse::<jiff::Timestamp>().is_ok(), "{numbers}");
    assert_eq!(text("/kernel"), fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    assert_eq!(text("/berth/0/version"), env!("CARGO_PKG_VERSION"), "{numbers}");
    assert_ne!(text("/berth/0/revision"), "", "{numbers}");
    assert_eq!([text("/tls"), text("/pulls/0/image"), text("/pulls/0/link")], ["2", "App:v1", "loopback"]);
    assert_eq!(numbers["pulls"][0]["samples"].as_array().map(Vec::len), Some(1), "{numbers}");

    let refused = bench(&["--tls"], &[&berth::binary()], "berth", "127.0.0.1:5000/app:v1")?;
    let why = String::from_utf8(refused.stderr)?;
    assert!(!refused.status.success() && why.contains("127.0.0.1:5000/app:v1 is on another one"), "{why}");
    Ok(())
}
