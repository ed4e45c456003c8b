//! Numbers of the process itself, as Prometheus's own clients name them, read when somebody asks.

use std::{fs, time::UNIX_EPOCH};

use crate::metrics::meter;

/// Clock ticks of proc(5): always 100 a second for programs, whatever the kernel's own.
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

/// Makes them. They last as long as the provider does.
pub(crate) fn observe() {
    let meter = meter();
    let started = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    meter
        .f64_observable_counter("process.cpu")
        .with_unit("s")
        .with_description("Time of processors that this process took")
        .with_callback(|to| {
            if let Some(seconds) = cpu() {
                to.observe(seconds, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process.resident_memory")
        .with_unit("By")
        .with_description("Memory that this process has in use")
        .with_callback(|to| {
            if let Some(bytes) = resident() {
                to.observe(bytes, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process.open_fds")
        .with_description("File descriptors that are open")
        .with_callback(|to| {
            if let Ok(open) = fs::read_dir("/proc/self/fd") {
                to.observe(open.count() as u64, &[]);
            }
        })
        .build();
    meter
        .f64_observable_gauge("process.start_time")
        .with_unit("s")
        .with_description("When this process started, in seconds since 1970")
        .with_callback(move |to| to.observe(started, &[]))
        .build();
}

/// User and system time: fields 14 and 15 of proc_pid_stat(5). The second field may hold anything, also blanks.
fn cpu() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
    Some((user + system) / TICKS)
}

/// The second field of proc_pid_statm(5), in pages.
fn resident() -> Option<u64> {
    let all = fs::read_to_string("/proc/self/statm").ok()?;
    Some(all.split_whitespace().nth(1)?.parse::<u64>().ok()? * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        assert!(cpu().is_some_and(|seconds| seconds >= 0.0));
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
