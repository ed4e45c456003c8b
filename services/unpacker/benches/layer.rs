//! What the stages of a layer cost, each alone and all together: `cargo bench -p berth-unpacker`.
//!
//! The layer is made up, unless `BERTH_BENCH_LAYER` names a file that holds a real one, compressed by gzip or zstd.

#![allow(missing_docs, reason = "the macros of the harness make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on shall stop")]

use std::{io::Read as _, path::PathBuf, sync::LazyLock};

use berth_unpacker::{apply::apply, decompress, inflate::ENGINES, pipeline, writers::Writers};
use divan::{Bencher, black_box, counter::BytesCount};
use sha2::Digest as _;

struct Layer {
    packed: Vec<u8>,
    plain: Vec<u8>,
}

static LAYER: LazyLock<Layer> = LazyLock::new(|| {
    if let Some(path) = std::env::var_os("BERTH_BENCH_LAYER") {
        let packed = std::fs::read(path).unwrap();
        let mut plain = Vec::new();
        decompress::open(&packed[..]).unwrap().1.read_to_end(&mut plain).unwrap();
        return Layer { packed, plain };
    }
    let plain = made_up();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    Layer { packed: gzip.finish().unwrap(), plain }
});

/// 200 directories of 20 files of up to 40 kB: words, in no order, so that they compress about as programs do.
fn made_up() -> Vec<u8> {
    let mut random = 7_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut archive = tar::Builder::new(Vec::new());
    for dir in 0..200 {
        for file in 0..20 {
            let (mut text, length) = (Vec::new(), next(40_000));
            while (text.len() as u64) < length {
                text.extend_from_slice(format!("word{:x} ", next(3_000)).as_bytes());
            }
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
            header.set_gid(u64::from(rustix::process::getegid().as_raw()));
            archive.append_data(&mut header, format!("dir{dir}/file{file}"), &text[..]).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

/// Trees stay until the end: ext4 makes files slowly for a while where some were deleted.
static TREES: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fn tree() -> PathBuf {
    tempfile::Builder::new().tempdir_in(TREES.path()).unwrap().keep()
}

fn main() {
    divan::main();
    std::fs::remove_dir_all(TREES.path()).unwrap();
}

#[divan::bench(args = ENGINES.iter().map(|engine| engine.name))]
fn inflate(bencher: Bencher, name: &str) {
    let layer = &*LAYER;
    let engine = ENGINES.iter().find(|engine| engine.name == name).unwrap();
    let mut buffer = vec![0; 256 << 10];
    bencher.counter(BytesCount::new(layer.plain.len())).bench_local(|| {
        let mut reader = decompress::gunzip(&layer.packed[..], engine);
        while reader.read(&mut buffer).unwrap() > 0 {}
    });
}

#[divan::bench]
fn hash(bencher: Bencher) {
    let layer = &*LAYER;
    bencher.counter(BytesCount::new(layer.plain.len())).bench_local(|| {
        black_box(sha2::Sha256::digest(&layer.plain));
    });
}

/// Reading and inflating, hashing, and handing over; nothing is written.
#[divan::bench]
fn stages(bencher: Bencher) {
    let layer = &*LAYER;
    bencher.counter(BytesCount::new(layer.plain.len())).bench_local(|| {
        pipeline::run(&layer.packed[..], |pieces| {
            while !pieces.piece(1 << 20).unwrap().is_empty() {}
            Ok(())
        })
        .unwrap()
    });
}

/// Making the files, by so many threads beside the one that reads the archive.
#[divan::bench(args = [1, 2, 4], sample_count = 10)]
fn create(bencher: Bencher, threads: usize) {
    let (layer, writers) = (&*LAYER, Writers::new(threads, None));
    bencher.counter(BytesCount::new(layer.plain.len())).with_inputs(tree).bench_local_refs(|upper| {
        apply(&mut &layer.plain[..], upper, &writers, &|| false).unwrap();
    });
}

/// All of it.
#[divan::bench(sample_count = 10)]
fn unpack(bencher: Bencher) {
    let (layer, writers) = (&*LAYER, Writers::new(4, None));
    bencher.counter(BytesCount::new(layer.plain.len())).with_inputs(tree).bench_local_refs(|upper| {
        pipeline::run(&layer.packed[..], |pieces| apply(pieces, upper, &writers, &|| false)).unwrap();
    });
}
