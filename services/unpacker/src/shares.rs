//! The processors, shared between the layers that are unpacked side by side: who has more left to read gets more of them, so
//! that all end at about the same time.
//!
//! If all threads are equal, the largest layer among eight gets an eighth, and at the end of a pull its one inflater runs alone
//! while the other processors have nothing to do. The share goes with the square of what is left: in proportion to it would
//! do if many threads could work on one layer, but one thread reads it, and that one has to run nearly always if its layer
//! is most of the image.
//!
//! A thread's share is its nice value, of which each step is a factor of 1.25 (`sched(7)`; `sched_prio_to_weight` in the
//! kernel). The layer with most to do has the usual one, the others higher ones: nobody is put before other programs. Who may
//! not lower a nice value again (`RLIMIT_NICE` of 20, or `CAP_SYS_NICE`) does not raise it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    process::{Pid, getpriority_process, setpriority_process},
    thread::gettid,
};

/// What one step of the nice value is worth.
const STEP: f64 = 1.25;
/// The last in the row still gets a tenth of what the first one gets.
const MOST: i32 = 10;
/// Shares are reckoned anew after so many bytes of a layer.
const EVERY: u64 = 4 << 20;

/// The layers under way in this process.
#[derive(Default)]
pub struct Shares {
    layers: Mutex<Layers>,
}

#[derive(Default)]
struct Layers {
    next: u64,
    under_way: BTreeMap<u64, Layer>,
}

struct Layer {
    left: u64,
    nice: i32,
    threads: Vec<Pid>,
}

/// One layer's place among them. Gone when dropped.
pub struct Share {
    shares: Arc<Shares>,
    id: u64,
    size: u64,
    told: AtomicU64,
}

/// The thread that made it belongs to a layer, as long as it lives.
pub struct Member {
    share: Arc<Share>,
    thread: Pid,
}

/// How much nicer a layer with so much left is than the one with most left.
fn nice(left: u64, most: u64) -> i32 {
    let ratio = most.max(1) as f64 / left.max(1) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a ratio of 64-bit numbers is small")]
    let steps = (2.0 * ratio.ln() / STEP.ln()).round() as i32;
    steps.clamp(0, MOST)
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A layer of so many bytes begins.
    pub fn begin(self: &Arc<Self>, size: u64) -> Arc<Share> {
        let mut layers = self.lock();
        let id = layers.next;
        layers.next += 1;
        layers.under_way.insert(id, Layer { left: size, nice: 0, threads: Vec::new() });
        layers.settle();
        Arc::new(Share { shares: Arc::clone(self), id, size, told: AtomicU64::new(0) })
    }
}

impl Layers {
    /// Gives each layer what it is due.
    fn settle(&mut self) {
        let most = self.under_way.values().map(|layer| layer.left).max().unwrap_or(0);
        for layer in self.under_way.values_mut() {
            let due = nice(layer.left, most);
            if due != layer.nice {
                layer.nice = due;
                for thread in &layer.threads {
                    set(*thread, due);
                }
            }
        }
    }
}

impl Share {
    /// So many bytes of it are read.
    pub fn read(&self, offset: u64) {
        if offset < self.told.load(Ordering::Relaxed) + EVERY {
            return;
        }
        self.told.store(offset, Ordering::Relaxed);
        let mut layers = self.shares.lock();
        if let Some(layer) = layers.under_way.get_mut(&self.id) {
            layer.left = self.size.saturating_sub(offset);
        }
        layers.settle();
    }

    /// This thread works for it.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Option<Member> {
        if !may_change() {
            return None;
        }
        let thread = gettid();
        let mut layers = self.shares.lock();
        let layer = layers.under_way.get_mut(&self.id)?;
        layer.threads.push(thread);
        set(thread, layer.nice);
        drop(layers);
        Some(Member { share: Arc::clone(self), thread })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut layers = self.shares.lock();
        layers.under_way.remove(&self.id);
        layers.settle();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut layers = self.share.shares.lock();
        if let Some(layer) = layers.under_way.get_mut(&self.share.id) {
            layer.threads.retain(|thread| *thread != self.thread);
        }
        // The thread may go on with something else.
        set(self.thread, 0);
    }
}

/// This thread works for no layer, though one that does may have started it: threads inherit their nice value.
pub(crate) fn leave() {
    if may_change() {
        set(gettid(), 0);
    }
}

fn set(thread: Pid, nice: i32) {
    let base = base();
    // A hint: a thread that is gone needs none.
    let _hint = setpriority_process(Some(thread), (base + nice).min(19));
}

/// The nice value that this program was started with.
fn base() -> i32 {
    static BASE: OnceLock<i32> = OnceLock::new();
    *BASE.get_or_init(|| getpriority_process(None).unwrap_or(0))
}

/// Whether a thread's nice value can be lowered again. Tried on a thread that nobody else has.
fn may_change() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let base = base();
        let tried = std::thread::spawn(move || {
            let thread = Some(gettid());
            setpriority_process(thread, base + 1).is_ok() && setpriority_process(thread, base).is_ok()
        });
        base < 19 && tried.join().unwrap_or(false)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use berth_testing::wait::wait_until;

    use super::*;

    #[test]
    fn who_has_more_left_gets_more() {
        assert_eq!(nice(100, 100), 0);
        assert_eq!(nice(80, 100), 2);
        assert_eq!(nice(50, 100), 6);
        assert_eq!(nice(0, 100), MOST, "at its end, or empty");
        assert_eq!(nice(0, 0), 0);
        assert_eq!(nice(7, u64::MAX), MOST);
    }

    /// What the kernel has.
    fn nice_of(thread: Pid) -> i32 {
        getpriority_process(Some(thread)).unwrap() - base()
    }

    #[test]
    fn threads_follow_their_layers_and_are_let_go() {
        assert!(may_change(), "the tests need root");
        let shares = Arc::<Shares>::default();
        let (large, small) = (shares.begin(100 << 20), shares.begin(50 << 20));
        let of_large = large.join().unwrap();
        assert_eq!(nice_of(of_large.thread), 0);
        let (told, tell) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let member = small.join().unwrap();
            told.send(member.thread).unwrap();
            ended.recv().unwrap();
            drop(member);
            let left = gettid();
            assert_eq!(nice_of(left), 0, "it may do something else");
        });
        let thread = tell.recv().unwrap();
        assert_eq!(nice_of(thread), 6);
        // The large one is nearly done: now the other comes first.
        large.read(99 << 20);
        wait_until("the exchange", Duration::from_secs(5), || nice_of(thread) == 0, || nice_of(thread).to_string());
        assert_eq!(nice_of(of_large.thread), MOST);
        end.send(()).unwrap();
        other.join().unwrap();
        assert_eq!(nice_of(of_large.thread), 0, "it is alone");
        drop((of_large, large));
        assert!(shares.lock().under_way.is_empty());
    }
}
