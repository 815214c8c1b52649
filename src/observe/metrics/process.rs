//! The process as the system sees it: memory, descriptors, threads and CPU time, read when
//! metrics are asked for.

use super::define;
use prometheus::{Counter, IntGauge, Registry};
use std::fs;

/// The process's gauges, under the names that Prometheus client libraries share.
#[derive(Debug)]
pub(super) struct Process {
    resident: IntGauge,
    virt: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    cpu: Counter,
}

impl Process {
    pub(super) fn new(registry: &Registry, start_unix_s: u64) -> Self {
        let gauge = |name, help| define::gauge(registry, name, help);
        let start = gauge(
            "process_start_time_seconds",
            "Start of the process, seconds since the Unix epoch.",
        );
        start.set(define::clamp(start_unix_s));
        Self {
            resident: gauge("process_resident_memory_bytes", "Resident memory."),
            virt: gauge("process_virtual_memory_bytes", "Virtual memory."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge("process_max_fds", "Most file descriptors allowed."),
            threads: gauge("process_threads", "Threads."),
            cpu: define::float_counter(
                registry,
                "process_cpu_seconds_total",
                "User and system CPU time spent.",
            ),
        }
    }

    /// Reads everything anew. What the system does not tell keeps its last value.
    pub(super) fn update(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let set = |gauge: &IntGauge, field: &str, unit: i64| {
            if let Some(value) = field_of(&status, field) {
                gauge.set(value.saturating_mul(unit));
            }
        };
        set(&self.resident, "VmRSS", 1024);
        set(&self.virt, "VmSize", 1024);
        set(&self.threads, "Threads", 1);
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The listing itself holds one.
            self.open_fds.set(define::clamp(entries.count() as u64) - 1);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.max_fds.set(limit.map_or(-1, define::clamp));
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let spent = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        self.cpu.inc_by((spent - self.cpu.get()).max(0.0));
    }
}

/// The number after `field:` in the text of `/proc/self/status`.
fn field_of(status: &str, field: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let value = line.strip_prefix(':')?.split_whitespace().next()?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmRSSX:\t1 kB\nVmRSS:\t  2048 kB\nThreads:\t7\n";
        assert_eq!(field_of("VmRSS:\t  2048 kB\n", "VmRSS"), Some(2048));
        assert_eq!(field_of(status, "Threads"), Some(7));
        assert_eq!(field_of(status, "VmSize"), None);
    }

    #[test]
    fn the_running_process_is_measured() {
        let process = Process::new(&Registry::new(), 1_700_000_000);
        process.update();
        assert!(process.resident.get() > 1 << 20);
        assert!(process.virt.get() >= process.resident.get());
        assert!(process.open_fds.get() >= 3);
        assert!(process.threads.get() >= 1);
        assert!(process.cpu.get() > 0.0);
        let before = process.cpu.get();
        process.update();
        assert!(process.cpu.get() >= before);
    }
}
