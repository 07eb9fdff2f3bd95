//! How a container ended, in words that a person on call understands.

use std::time::Duration;

use model::{container::ContainerSpec, task::Exit};

/// POSIX and Linux names of the signals 1 to 31.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The cause of an end.
pub(crate) fn words(exit: &Exit, spec: Option<&ContainerSpec>) -> String {
    if exit.oom {
        return match spec.map(|spec| spec.resources.memory_limit) {
            Some(limit) if limit > 0 => format!("killed: out of memory, its limit is {}", bytes(limit)),
            _ => "killed: the node was out of memory".to_owned(),
        };
    }
    match exit.code {
        126 => "exited with code 126 (the command cannot be executed)".to_owned(),
        127 => "exited with code 127 (the command was not found)".to_owned(),
        code => match signal(code) {
            Some(name) => format!("ended by {name} (exit code {code})"),
            None => format!("exited with code {code}"),
        },
    }
}

fn signal(code: i64) -> Option<&'static str> {
    let index = usize::try_from(code.checked_sub(129)?).ok()?;
    SIGNALS.get(index).copied()
}

fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| count >= *size && count.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{} {unit}", count / size),
        None => format!("{count} bytes"),
    }
}

/// A duration short enough for a message.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else if duration < Duration::from_secs(120) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min", duration.as_secs() / 60)
    }
}

#[cfg(test)]
mod tests {
    use model::container::Resources;

    use super::*;

    fn check(code: i64, oom: bool, memory_limit: u64, expected: &str) {
        let spec = ContainerSpec {
            resources: Resources { memory_limit, ..Default::default() },
            ..Default::default()
        };
        assert_eq!(words(&Exit { code, oom, message: String::new() }, Some(&spec)), expected);
    }

    #[test]
    fn an_end_is_told_by_its_cause() {
        check(0, false, 0, "exited with code 0");
        check(3, false, 0, "exited with code 3");
        check(127, false, 0, "exited with code 127 (the command was not found)");
        check(137, false, 0, "ended by SIGKILL (exit code 137)");
        check(143, false, 0, "ended by SIGTERM (exit code 143)");
        check(255, false, 0, "exited with code 255");
        check(137, true, 64 << 20, "killed: out of memory, its limit is 64 MiB");
        check(137, true, 1_000, "killed: out of memory, its limit is 1000 bytes");
        check(137, true, 0, "killed: the node was out of memory");
        check(i64::MIN, false, 0, "exited with code -9223372036854775808");
    }
}
