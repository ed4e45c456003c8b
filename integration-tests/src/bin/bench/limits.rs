//! What the machine can do at most for an image, stage by stage, on some of its processors: a pull that does all of it and keeps
//! the processors busy cannot be faster than the slowest stage, nor than all of them together divided by the processors.
//!
//! Download: layers, eight at a time, thrown away. Hash: as many bytes as the layers have, packed and unpacked. Inflate: a thread
//! for each processor, the largest layer first, one thread for each layer. Create: the same directories, files and blobs with
//! the same sizes, by all threads, on an empty file system; and then its flush.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufReader, Read, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    unistd::Pid,
};
use sha2::Digest as _;

use crate::{disk::Disk, source::Source};

/// Downloads side by side.
const DOWNLOADS: usize = 8;
const BUFFER: usize = 256 << 10;

/// Seconds of each stage, on so many processors.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) cpus: usize,
    pub(crate) download: f64,
    pub(crate) hash: f64,
    pub(crate) inflate: f64,
    pub(crate) create: f64,
    pub(crate) flush: f64,
    /// Processor seconds of all stages but the flush, divided by the processors.
    pub(crate) together: f64,
}

impl Limits {
    /// Of a pull that is durable when it ends: what it makes has to be flushed, too.
    pub(crate) fn durable(&self) -> f64 {
        self.bound().max(self.create + self.flush)
    }

    /// The slowest stage, or all of them together.
    pub(crate) fn bound(&self) -> f64 {
        [self.download, self.hash, self.inflate, self.create, self.together].into_iter().fold(0.0, f64::max)
    }
}

/// An image, with its layers on this machine.
pub(crate) struct Measured {
    source: Source,
    blobs: Vec<PathBuf>,
    packed: u64,
    unpacked: AtomicU64,
    /// Directories, and files with their sizes, of all layers.
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    directories: BTreeSet<PathBuf>,
    files: Vec<(PathBuf, u64)>,
}

impl Measured {
    /// Fetches the layers into a directory and reads what is in them.
    pub(crate) fn prepare(image: &str, dir: &Path) -> Result<Self> {
        let source = Source::of(image)?;
        fs::create_dir_all(dir)?;
        let (mut blobs, mut packed) = (Vec::new(), 0);
        for digest in &source.layers {
            let path = dir.join(digest.replace(':', "-"));
            packed += std::io::copy(&mut source.blob(digest)?, &mut File::create(&path)?)?;
            blobs.push(path);
        }
        let entries = Mutex::default();
        let measured = Self { source, blobs, packed, unpacked: AtomicU64::new(0), entries };
        on(std::thread::available_parallelism()?.get(), &measured.blobs, |number, blob| measured.read(number, blob))?;
        Ok(measured)
    }

    fn read(&self, number: usize, blob: &Path) -> Result<()> {
        let mut archive = tar::Archive::new(inflated(blob)?);
        let mut mine = Entries::default();
        let layer = PathBuf::from(format!("layer{number}"));
        for entry in archive.entries()? {
            let entry = entry?;
            let path: PathBuf =
                entry.path()?.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
            let path = layer.join(path);
            if entry.header().entry_type().is_dir() {
                mine.directories.insert(path);
            } else if entry.header().entry_type().is_file() {
                mine.directories.extend(path.parent().map(Path::to_owned));
                mine.files.push((path, entry.size()));
            }
        }
        let mut rest = archive.into_inner();
        std::io::copy(&mut rest, &mut std::io::sink())?;
        self.unpacked.fetch_add(rest.count, Ordering::Relaxed);
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        all.directories.append(&mut mine.directories);
        // A name that comes twice is one file.
        mine.files.sort();
        mine.files.dedup_by(|one, other| one.0 == other.0);
        all.files.append(&mut mine.files);
        Ok(())
    }

    /// Each stage alone.
    pub(crate) fn on(&self, cpus: usize, disk: &Disk) -> Result<Limits> {
        let before = spent()?;
        let download =
            timed(|| on_threads(cpus, DOWNLOADS, &self.source.layers, |_, digest| drain(self.source.blob(digest)?)))?;
        let each = (self.packed + self.unpacked.load(Ordering::Relaxed)) / cpus as u64;
        let hash = timed(|| on(cpus, &vec![each; cpus], |_, bytes| hash(*bytes)))?;
        let inflate = timed(|| on(cpus, &self.blobs, |_, blob| drain(inflated(blob)?)))?;
        let mounted = disk.fresh()?;
        rustix::fs::sync();
        let root = mounted.path();
        let create = timed(|| self.create(cpus, root))?;
        let together = (spent()? - before) / cpus as f64;
        let store = File::open(root)?;
        let flush = timed(|| Ok(rustix::fs::syncfs(&store)?))?;
        Ok(Limits { cpus, download, hash, inflate, create, flush, together })
    }

    fn create(&self, cpus: usize, root: &Path) -> Result<()> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in &entries.directories {
            fs::create_dir_all(root.join(directory)).with_context(|| format!("make {}", directory.display()))?;
        }
        let bytes = vec![7; BUFFER];
        let write = |path: &Path, size: u64| -> Result<()> {
            let mut file = File::create(root.join(path)).with_context(|| format!("make {}", path.display()))?;
            let mut left = size;
            while left > 0 {
                let part = bytes.get(..usize::try_from(left).unwrap_or(BUFFER).min(BUFFER)).unwrap_or_default();
                file.write_all(part)?;
                left -= part.len() as u64;
            }
            Ok(())
        };
        // Neighbours stay with one thread: a directory takes one new name at a time.
        let mut parts: Vec<&[(PathBuf, u64)]> = entries.files.chunks(64).collect();
        let blobs = self
            .blobs
            .iter()
            .enumerate()
            .map(|(number, blob)| Ok((format!("blob{number}").into(), fs::metadata(blob)?.len())));
        let blobs: Vec<(PathBuf, u64)> = blobs.collect::<Result<_>>()?;
        parts.splice(0..0, blobs.chunks(1));
        on(cpus, &parts, |_, part| part.iter().try_for_each(|(path, size)| write(path, *size)))
    }
}

/// Processor seconds of this program so far.
fn spent() -> Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64 / 1e6)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn drain(mut reader: impl Read) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}

fn hash(bytes: u64) -> Result<()> {
    let (buffer, mut state) = (vec![7_u8; BUFFER], sha2::Sha256::new());
    for _ in 0..bytes / BUFFER as u64 {
        state.update(&buffer);
    }
    std::hint::black_box(state.finalize());
    Ok(())
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

/// A layer's bytes, uncompressed.
fn inflated(blob: &Path) -> Result<Counted<Box<dyn Read>>> {
    let mut head = [0; 4];
    let mut file = File::open(blob)?;
    let known = file.read(&mut head)?;
    let file = BufReader::with_capacity(BUFFER, File::open(blob)?);
    let inner: Box<dyn Read> = match head.get(..known) {
        Some([0x1f, 0x8b, ..]) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some([0x28, 0xb5, 0x2f, 0xfd]) => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        _ => Box::new(file),
    };
    Ok(Counted { inner, count: 0 })
}

/// Works on all, one after the other, by a thread for each of the first `cpus` processors.
fn on<T: Sync>(cpus: usize, all: &[T], work: impl Fn(usize, &T) -> Result<()> + Sync) -> Result<()> {
    on_threads(cpus, cpus, all, work)
}

fn on_threads<T: Sync>(
    cpus: usize,
    threads: usize,
    all: &[T],
    work: impl Fn(usize, &T) -> Result<()> + Sync,
) -> Result<()> {
    let next = Mutex::new(all.iter().enumerate());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let run = || -> Result<()> {
            let mut set = CpuSet::new();
            (0..cpus).try_for_each(|cpu| set.set(cpu))?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
            while let Some((number, one)) = take() {
                work(number, one)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_panic| anyhow::anyhow!("a stage panicked"))?)
    })
}
