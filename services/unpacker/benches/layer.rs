//! What the stages of a layer cost, each alone and all together: `cargo bench -p berth-unpacker`.
//!
//! The layer is made up, and packed by gzip and by zstd, unless `BERTH_BENCH_LAYER` names a file that holds a real one, however
//! that is packed. Cargo runs it in the directory of this package, so a name that begins otherwise than with `/` is looked for there.

#![allow(missing_docs, reason = "the macros of the harness make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on shall stop")]

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::LazyLock,
};

use berth_unpacker::{apply::apply, archive, decompress, inflate::ENGINES, pieces::Pieces, pipeline, writers::Writers};
use bytes::Bytes;
use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use sha2::Digest as _;

/// Bytes that are handed over at once.
const BUFFER: usize = 256 << 10;

struct Layer {
    /// By the word for how it is packed.
    packed: Vec<(&'static str, Vec<u8>)>,
    plain: Bytes,
}

impl Layer {
    fn packed(&self, how: &str) -> &[u8] {
        &self.packed.iter().find(|(name, _)| *name == how).unwrap().1
    }
}

static LAYER: LazyLock<Layer> = LazyLock::new(|| {
    if let Some(path) = std::env::var_os("BERTH_BENCH_LAYER") {
        let packed = std::fs::read(&path);
        let packed = packed.unwrap_or_else(|error| panic!("BERTH_BENCH_LAYER: {}: {error}", path.display()));
        let mut plain = Vec::new();
        let (how, mut reader) = decompress::open(&packed[..]).unwrap();
        reader.read_to_end(&mut plain).unwrap();
        drop(reader);
        return Layer { packed: vec![(how.name(), packed)], plain: plain.into() };
    }
    let plain = made_up();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], zstd::DEFAULT_COMPRESSION_LEVEL).unwrap();
    Layer { packed: vec![("gzip", gzip.finish().unwrap()), ("zstd", zstd)], plain: plain.into() }
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

fn packings() -> impl Iterator<Item = &'static str> {
    LAYER.packed.iter().map(|(how, _)| *how)
}

/// The libraries that undo gzip, by name; for other packings there is one each.
fn inflaters() -> Vec<&'static str> {
    let by = |how| if how == "gzip" { ENGINES.iter().map(|engine| engine.name).collect() } else { vec![how] };
    packings().flat_map(by).collect()
}

#[divan::bench(args = inflaters())]
fn inflate(bencher: Bencher, by: &str) {
    let layer = &*LAYER;
    let engine = ENGINES.iter().find(|engine| engine.name == by);
    let open = || -> Box<dyn Read> {
        match engine {
            Some(engine) => Box::new(decompress::gunzip(layer.packed("gzip"), engine)),
            None => decompress::open(layer.packed(by)).unwrap().1,
        }
    };
    let mut buffer = vec![0; BUFFER];
    bencher.counter(BytesCount::new(layer.plain.len())).bench_local(|| {
        let mut reader = open();
        while reader.read(&mut buffer).unwrap() > 0 {}
    });
}

/// A layer that was inflated before, in such pieces as the stage before hands over.
struct Inflated(Bytes);

impl Pieces for Inflated {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        Ok(self.0.split_to(most.min(self.0.len()).min(BUFFER)))
    }
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.piece(buffer.len())?.as_ref().read(buffer)
    }
}

/// Reading the archive alone: its headers, past the files' bytes. Nothing is written.
#[divan::bench]
fn archive_alone(bencher: Bencher) {
    let layer = &*LAYER;
    let source = || Inflated(layer.plain.clone());
    let entries = ItemsCount::new(archive::count(&mut source()).unwrap());
    bencher.counter(entries).bench_local(|| archive::count(&mut source()).unwrap());
}

#[divan::bench]
fn hash(bencher: Bencher) {
    let layer = &*LAYER;
    bencher.counter(BytesCount::new(layer.plain.len())).bench_local(|| {
        black_box(sha2::Sha256::digest(&layer.plain));
    });
}

/// Reading and inflating, hashing, and handing over; nothing is written.
#[divan::bench(args = packings())]
fn stages(bencher: Bencher, how: &str) {
    let layer = &*LAYER;
    bencher.counter(BytesCount::new(layer.plain.len())).bench_local(|| {
        pipeline::run(layer.packed(how), |pieces| {
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
#[divan::bench(args = packings(), sample_count = 10)]
fn unpack(bencher: Bencher, how: &str) {
    let (layer, writers) = (&*LAYER, Writers::new(4, None));
    bencher.counter(BytesCount::new(layer.plain.len())).with_inputs(tree).bench_local_refs(|upper| {
        pipeline::run(layer.packed(how), |pieces| apply(pieces, upper, &writers, &|| false)).unwrap();
    });
}
