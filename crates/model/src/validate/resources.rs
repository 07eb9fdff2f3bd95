//! Limits, reservations, ulimits, logs.

use std::collections::BTreeSet;

use super::{Problems, text::quote};
use crate::container::{LogPolicy, Resources, Ulimit};

/// The engine's own least memory limit.
const MIN_MEMORY: u64 = 6 << 20;
/// The engine's own least share of a core, in thousandths.
const MIN_CPU_MILLIS: u64 = 10;
/// Beyond any machine: such a number is a wrong unit.
const MAX_CPU_MILLIS: u64 = 4_096_000;
const MAX_MEMORY: u64 = 64 << 40;
/// Logs of one container: one file of at least so much, all together at most so much.
const MIN_LOG_SIZE: u64 = 64 << 10;
const MAX_LOGS: u64 = 16 << 30;
const MAX_LOG_FILES: u32 = 100;
/// What the kernel knows.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn resources(problems: &mut Problems, path: &str, resources: &Resources) {
    let Resources { cpu_limit_millis, memory_limit, cpu_reserve_millis, memory_reserve, pids_limit: _ } =
        *resources;
    let memory = |bytes: u64| bytes == 0 || (MIN_MEMORY..=MAX_MEMORY).contains(&bytes);
    problems.ensure(memory(memory_limit), format!("{path}.memory_limit"), || {
        format!("{memory_limit} bytes; write 6 MiB to 64 TiB, or 0 for no limit")
    });
    problems.ensure(memory_reserve <= MAX_MEMORY, format!("{path}.memory_reserve"), || {
        format!("{memory_reserve} bytes are more than any node has; write at most 64 TiB")
    });
    problems.ensure(
        cpu_limit_millis == 0 || (MIN_CPU_MILLIS..=MAX_CPU_MILLIS).contains(&cpu_limit_millis),
        format!("{path}.cpu_limit_millis"),
        || format!("{cpu_limit_millis}; write {MIN_CPU_MILLIS} to {MAX_CPU_MILLIS} thousandths of a core, or 0 for no limit"),
    );
    problems.ensure(cpu_reserve_millis <= MAX_CPU_MILLIS, format!("{path}.cpu_reserve_millis"), || {
        format!("{cpu_reserve_millis} thousandths of a core are more than any node has")
    });
    let pairs = [("memory", memory_reserve, memory_limit), ("cpu", cpu_reserve_millis, cpu_limit_millis)];
    for (what, reserve, limit) in pairs {
        problems.ensure(limit == 0 || reserve <= limit, format!("{path}.{what}_reserve"), || {
            format!("{reserve} is reserved but {limit} is the limit; reserve at most the limit")
        });
    }
}

pub(super) fn ulimits(problems: &mut Problems, path: &str, ulimits: &[Ulimit]) {
    let mut seen = BTreeSet::new();
    for (position, ulimit) in ulimits.iter().enumerate() {
        let path = format!("{path}[{position}]");
        let name = &*ulimit.name;
        problems.ensure(ULIMITS.contains(&name), &path, || {
            format!("{} is no ulimit; known are {}", quote(name), ULIMITS.join(", "))
        });
        problems.ensure(seen.insert(name), &path, || format!("{} occurs twice", quote(name)));
        let endless = |value: i64| if value == -1 { i64::MAX } else { value };
        problems.ensure(ulimit.soft >= -1 && ulimit.hard >= -1, &path, || {
            "write 0 or more, or -1 for no limit".into()
        });
        problems.ensure(endless(ulimit.soft) <= endless(ulimit.hard), &path, || {
            format!("the soft limit {} is above the hard limit {}", ulimit.soft, ulimit.hard)
        });
    }
}

pub(super) fn log(problems: &mut Problems, path: &str, log: &LogPolicy) {
    problems.ensure(log.max_size >= MIN_LOG_SIZE, format!("{path}.max_size"), || {
        format!("{} bytes; a log file has at least {MIN_LOG_SIZE}", log.max_size)
    });
    problems.ensure((1..=MAX_LOG_FILES).contains(&log.max_files), format!("{path}.max_files"), || {
        format!("{}; write 1 to {MAX_LOG_FILES}", log.max_files)
    });
    problems.ensure(log.max_size.saturating_mul(log.max_files.into()) <= MAX_LOGS, path, || {
        format!("{} files of {} bytes; a container keeps at most 16 GiB of logs", log.max_files, log.max_size)
    });
}
