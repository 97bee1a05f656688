//! This process as the system sees it, under the names that every Prometheus client uses for it. What `/proc` does not
//! tell is left out.

use prometheus::Result;
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::families::Families;
use crate::model::Timestamp;

/// Notes how the process is now; it started at `started_at`.
pub(super) fn note(families: &Families<'_>, started_at: Timestamp) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let bytes = |name: &str| field(name).map(|kib| kib * 1024.0);
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    // The folder that is read is open itself meanwhile.
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1));
    families.total("process_cpu_seconds_total", "CPU time that the process has used, of all its threads.", seconds)?;
    families.known("process_resident_memory_bytes", "Memory of the process that is in RAM.", bytes("VmRSS"))?;
    families.known("process_virtual_memory_bytes", "Address space of the process.", bytes("VmSize"))?;
    families.known("process_threads", "Threads of the process.", field("Threads"))?;
    families.known("process_open_fds", "Open files and sockets.", open.map(|open| open as f64))?;
    let most = getrlimit(Resource::Nofile).current.map(|most| most as f64);
    families.known("process_max_fds", "Files and sockets that may be open.", most)?;
    families.gauge("process_start_time_seconds", "When the process started, since 1970.", super::seconds(started_at))
}
