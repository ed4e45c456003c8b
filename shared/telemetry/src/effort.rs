//! What work had of the processors: for how long it ran, and for how long it could have run and none was free. The rest of
//! its time something else held it up, a disk for example. As the kernel says it (`/proc/PID/schedstat`); where it does not,
//! nothing is known of waits for processors.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How old a look at all threads may be to serve as another's beginning: it costs some microseconds for each thread.
const FRESH: Duration = Duration::from_millis(50);

/// Time of a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// All of it.
    pub busy: Duration,
    /// No processor was free.
    pub starved: Duration,
    /// It could not go on for another reason.
    pub held_up: Duration,
}

impl Effort {
    /// Of the same thing, more.
    pub fn add(&mut self, other: Self) {
        self.busy += other.busy;
        self.starved += other.starved;
        self.held_up += other.held_up;
    }

    /// The same in proportion, for `busy` of it.
    #[must_use]
    pub fn scaled(self, busy: Duration) -> Self {
        if self.busy.is_zero() {
            return Self { busy, ..Self::default() };
        }
        let part = busy.as_secs_f64() / self.busy.as_secs_f64();
        Self { busy, starved: self.starved.mul_f64(part), held_up: self.held_up.mul_f64(part) }
    }
}

/// What the kernel says of a thread, since it began.
#[derive(Clone, Copy, Debug, Default)]
struct Ran {
    ran: Duration,
    starved: Duration,
}

impl Ran {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().map(|word| word.parse().map(Duration::from_nanos));
        Some(Self { ran: words.next()?.ok()?, starved: words.next()?.ok()? })
    }

    fn since(self, before: Self) -> Self {
        Self { ran: self.ran.saturating_sub(before.ran), starved: self.starved.saturating_sub(before.starved) }
    }
}

/// What this thread does from now on.
#[derive(Debug)]
pub struct OfThread {
    begun: Instant,
    before: Option<Ran>,
}

thread_local! {
    /// Opened once: reading it again is one call of the kernel.
    static SAID: RefCell<Option<File>> = RefCell::new(File::open("/proc/thread-self/schedstat").ok());
}

fn of_this_thread() -> Option<Ran> {
    let mut text = [0; 80];
    let length = SAID.with_borrow(|file| file.as_ref()?.read_at(&mut text, 0).ok())?;
    Ran::parse(str::from_utf8(text.get(..length)?).ok()?)
}

impl OfThread {
    /// Begins to watch.
    #[must_use]
    pub fn begin() -> Self {
        Self { begun: Instant::now(), before: of_this_thread() }
    }

    /// Of all the time since the beginning, what was no waiting for others' work (`waited`).
    #[must_use]
    pub fn end(&self, waited: Duration) -> Effort {
        let busy = self.begun.elapsed().saturating_sub(waited);
        let Some((before, now)) = self.before.zip(of_this_thread()) else {
            return Effort { busy, ..Effort::default() };
        };
        let Ran { ran, starved } = now.since(before);
        let starved = starved.min(busy.saturating_sub(ran));
        Effort { busy, starved, held_up: busy.saturating_sub(ran + starved) }
    }
}

/// A look at all threads of the process.
#[derive(Debug)]
struct Look {
    at: Instant,
    threads: HashMap<u32, Ran>,
}

impl Look {
    fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((id, Ran::parse(&fs::read_to_string(entry.path().join("schedstat")).ok()?)?))
        });
        Self { at: Instant::now(), threads: threads.collect() }
    }
}

static LAST: Mutex<Option<Arc<Look>>> = Mutex::new(None);

/// A look that is fresh enough.
fn look() -> Arc<Look> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some(look) if look.at.elapsed() < FRESH => Arc::clone(look),
        _ => Arc::clone(last.insert(Arc::new(Look::now()))),
    }
}

/// What all threads of this process do from now on.
#[derive(Debug)]
pub struct OfProcess {
    before: Arc<Look>,
}

impl OfProcess {
    /// Begins to watch.
    #[must_use]
    pub fn begin() -> Self {
        Self { before: look() }
    }

    /// For which part of the time since then (0 to 1) work of this process waited for a processor. Of a time too short for
    /// an answer: 0.
    #[must_use]
    pub fn starved(&self) -> f64 {
        let now = look();
        let passed = now.at.saturating_duration_since(self.before.at).as_secs_f64();
        if passed <= 0.0 {
            return 0.0;
        }
        let (mut worst, mut wanted) = (0.0_f64, 0.0);
        for (id, thread) in &now.threads {
            let more = thread.since(self.before.threads.get(id).copied().unwrap_or_default());
            let starved = more.starved.as_secs_f64() / passed;
            // The sum of many that wait a little each says nothing of any work's delay.
            worst = worst.max(starved);
            wanted += starved + more.ran.as_secs_f64() / passed;
        }
        // Who had nothing to do for much of the time waited for something else, and would have all the same.
        worst.min(1.0) * (2.0 * wanted - 1.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let ran = Ran::parse("1000 2000 3\n").unwrap();
        assert_eq!((ran.ran, ran.starved), (Duration::from_nanos(1000), Duration::from_nanos(2000)));
        assert!(Ran::parse("").is_none() && Ran::parse("1 x 3").is_none());
    }

    #[test]
    fn who_computes_is_not_held_up_and_who_sleeps_is() {
        let computes = OfThread::begin();
        let until = Instant::now() + Duration::from_millis(40);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let effort = computes.end(Duration::ZERO);
        assert!(effort.busy >= Duration::from_millis(40) && effort.held_up < effort.busy / 2, "{effort:?}");
        let sleeps = OfThread::begin();
        std::thread::sleep(Duration::from_millis(40));
        let effort = sleeps.end(Duration::ZERO);
        assert!(effort.held_up > effort.busy / 2, "{effort:?}");
        assert_eq!(sleeps.end(Duration::from_secs(9)).busy, Duration::ZERO, "all of it was waiting");
    }

    #[test]
    fn a_process_with_too_much_to_do_is_starved() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let before = OfProcess { before: Arc::new(Look::now()) };
        let until = Instant::now() + Duration::from_millis(300);
        std::thread::scope(|scope| {
            for _ in 0..processors * 4 {
                scope.spawn(|| while Instant::now() < until {});
            }
            while Instant::now() + Duration::from_millis(100) < until {}
            let starved = before.starved();
            assert!(starved > 0.3, "{starved}");
        });
    }
}
