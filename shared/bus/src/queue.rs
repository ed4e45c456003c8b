//! How a queue of jobs stands: what waits, what runs, and who works on it.

use std::time::Duration;

/// The jobs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Which jobs.
    pub kind: String,
    /// Jobs that no worker has taken.
    pub waiting: u64,
    /// For how long the first of them has waited.
    pub oldest: Option<Duration>,
    /// Jobs that a worker has, or had and is to try again after a pause.
    pub running: u64,
    /// Who works on them, by name.
    pub workers: Vec<WorkerState>,
}

/// A process that works on jobs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
    /// Host and process.
    pub name: String,
    /// Jobs it runs.
    pub busy: u32,
    /// Jobs it runs at most.
    pub places: u32,
}

impl WorkerState {
    /// As it travels in a sign of life: `BUSY PLACES NAME`.
    pub(crate) fn to_line(&self) -> String {
        format!("{} {} {}", self.busy, self.places, self.name)
    }

    /// From a sign of life; older workers say nothing there.
    pub(crate) fn of_line(line: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(line).ok()?.splitn(3, ' ');
        let (busy, places) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let name: String = parts.next()?.chars().filter(|c| !c.is_control()).take(100).collect();
        Some(Self { name, busy, places })
    }
}

/// What this process is called as a worker.
pub(crate) fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_read_back() {
        let worker = WorkerState { name: own_name(), busy: 1, places: 4 };
        assert_eq!(WorkerState::of_line(worker.to_line().as_bytes()), Some(worker));
        for strange in ["", "1 2", "a b c", "1 -2 x", "\u{ff}"] {
            assert_eq!(WorkerState::of_line(strange.as_bytes()), None, "{strange}");
        }
    }
}
