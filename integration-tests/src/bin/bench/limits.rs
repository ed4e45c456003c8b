//! What the machine can do at most for an image, stage by stage, on some of its processors: a pull that does all of it and keeps
//! the processors busy cannot be faster than the slowest stage, nor than all of them together divided by the processors.
//!
//! Download: layers, eight at a time, thrown away. Hash: as many bytes as the layers have, packed and unpacked. Inflate: a thread
//! for each processor, the largest layer first, one thread for each layer, by what Berth itself inflates with. Create: the same
//! directories, files and blobs with the same sizes, by all threads, on an empty file system; and then its flush.
//!
//! Each stage has some tries, and each number is the least of them: whatever disturbs one makes it slower. Large files are made
//! through the page cache and past it. The one takes more processor time, the other waits for the disk; the sooner and the cheaper
//! one counts, each for its own bound. What is too slow here would be no bound.

mod create;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use berth_unpacker::{decompress, inflate};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    unistd::Pid,
};
use sha2::Digest as _;

use self::create::{LARGE, Way, Work};
use crate::{disk::Disk, source::Source};

/// Downloads side by side.
const DOWNLOADS: usize = 8;
const BUFFER: usize = 256 << 10;
/// Of each stage.
const TRIES: usize = 3;

/// Seconds of each stage, on so many processors.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) cpus: usize,
    pub(crate) download: f64,
    pub(crate) hash: f64,
    pub(crate) inflate: f64,
    pub(crate) create: f64,
    /// So much later than after `create` everything is on the disk, whichever way is the soonest there.
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

/// What gzip is inflated by.
pub(crate) fn engine() -> &'static str {
    inflate::ENGINES.first().map_or("nothing", |engine| engine.name)
}

/// An image, with its layers on this machine.
pub(crate) struct Measured {
    source: Source,
    blobs: Vec<PathBuf>,
    /// Of all layers, packed and unpacked.
    bytes: u64,
    /// Those of all layers.
    directories: Vec<PathBuf>,
    /// The same, with their sizes, those of one directory together; and the blobs.
    files: Vec<(PathBuf, u64)>,
}

/// What is in a layer.
#[derive(Default)]
struct Entries {
    bytes: u64,
    directories: BTreeSet<PathBuf>,
    files: Vec<(PathBuf, u64)>,
}

impl Measured {
    /// Fetches the layers into a directory and reads what is in them.
    pub(crate) fn prepare(image: &str, dir: &Path) -> Result<Self> {
        let source = Source::of(image)?;
        fs::create_dir_all(dir)?;
        let (mut blobs, mut files, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (number, digest) in source.layers.iter().enumerate() {
            let path = dir.join(digest.replace(':', "-"));
            let packed = std::io::copy(&mut source.blob(digest)?, &mut File::create(&path)?)?;
            bytes += packed;
            files.push((format!("blob{number}").into(), packed));
            blobs.push(path);
        }
        let layers = Mutex::new(Vec::new());
        on(std::thread::available_parallelism()?.get(), &blobs, |number, blob| {
            let entries = read(number, blob)?;
            layers.lock().unwrap_or_else(PoisonError::into_inner).push(entries);
            Ok(())
        })?;
        let mut directories = Vec::new();
        for entries in layers.into_inner().unwrap_or_else(PoisonError::into_inner) {
            bytes += entries.bytes;
            directories.extend(entries.directories);
            files.extend(entries.files);
        }
        Ok(Self { source, blobs, bytes, directories, files })
    }

    /// Each stage alone.
    pub(crate) fn on(&self, cpus: usize, disk: &Disk) -> Result<Limits> {
        let download =
            least(|| on_threads(cpus, DOWNLOADS, &self.source.layers, |_, digest| drain(self.source.blob(digest)?)))?;
        let each = vec![self.bytes / cpus as u64; cpus];
        let hash = least(|| on(cpus, &each, |_, bytes| hash(*bytes)))?;
        let inflate = least(|| on(cpus, &self.blobs, |_, blob| drain(inflated(blob)?)))?;
        let (create, flushed) = self.create(cpus, disk)?;
        let cpu: f64 = [download, hash, inflate, create].iter().map(|stage| stage.cpu).sum();
        Ok(Limits {
            cpus,
            download: download.wall,
            hash: hash.wall,
            inflate: inflate.wall,
            create: create.wall,
            flush: flushed - create.wall,
            together: cpu / cpus as f64,
        })
    }

    /// What that takes; and seconds until all is flushed, too.
    fn create(&self, cpus: usize, disk: &Disk) -> Result<(Took, f64)> {
        let work = Work::new(&self.directories, &self.files);
        let large = self.files.iter().any(|(_, size)| *size >= LARGE);
        let ways: &[Way] = if large { &[Way::Through, Way::Past] } else { &[Way::Through] };
        let (mut create, mut flushed) = (Took::MOST, f64::MAX);
        for way in std::iter::repeat_n(ways, TRIES).flatten() {
            let mounted = disk.fresh()?;
            rustix::fs::sync();
            let root = mounted.path();
            let created = timed(|| work.done(cpus, root, *way))?;
            let store = File::open(root)?;
            let flush = timed(|| Ok(rustix::fs::syncfs(&store)?))?;
            create = create.least(created);
            flushed = flushed.min(created.wall + flush.wall);
        }
        Ok((create, flushed))
    }
}

/// What is in the layer of this number.
fn read(number: usize, blob: &Path) -> Result<Entries> {
    let mut archive = tar::Archive::new(Counted { inner: inflated(blob)?, count: 0 });
    let mut all = Entries::default();
    let layer = PathBuf::from(format!("layer{number}"));
    for entry in archive.entries()? {
        let entry = entry?;
        let path: PathBuf =
            entry.path()?.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
        let path = layer.join(path);
        if entry.header().entry_type().is_dir() {
            all.directories.insert(path);
        } else if entry.header().entry_type().is_file() {
            all.directories.extend(path.parent().map(Path::to_owned));
            all.files.push((path, entry.size()));
        }
    }
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink())?;
    all.bytes = rest.count;
    // A name that comes twice is one file.
    all.files.sort_by(|(one, _), (other, _)| (one.parent(), one).cmp(&(other.parent(), other)));
    all.files.dedup_by(|(one, _), (other, _)| one == other);
    Ok(all)
}

/// Seconds, and processor seconds of this program.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

impl Took {
    const MOST: Self = Self { wall: f64::MAX, cpu: f64::MAX };

    fn least(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
}

/// Of all tries.
fn least(mut work: impl FnMut() -> Result<()>) -> Result<Took> {
    (0..TRIES).try_fold(Took::MOST, |least, _| Ok(least.least(timed(&mut work)?)))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Took> {
    let (begun, before) = (Instant::now(), spent()?);
    work()?;
    Ok(Took { wall: begun.elapsed().as_secs_f64(), cpu: spent()? - before })
}

/// Processor seconds of this program so far.
fn spent() -> Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64 / 1e6)
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
fn inflated(blob: &Path) -> Result<impl Read + use<>> {
    Ok(decompress::open(File::open(blob)?)?.1)
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
