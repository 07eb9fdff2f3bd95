//! A panic in a daemon: the line is written, and the process is gone.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use telemetry::{LogConfig, abort_on_panic, init};

/// Set for the child, which runs the one test below in a process of its own.
const CHILD: &str = "TELEMETRY_TEST_PANICS";
const SIGABRT: i32 = 6;

#[test]
fn a_panic_on_any_thread_is_logged_and_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        panic_on_a_thread();
    }
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "--nocapture", "a_panic_on_any_thread_is_logged_and_ends_the_process"])
        .env(CHILD, "1")
        .env_remove("ORCH_LOG")
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the child ran");

    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{said}");
    assert!(said.contains("level=error at=telemetry::panic message=\"a bug: the process ends\""), "{said}");
    assert!(said.contains("panic=\"the raft loop is lost\" thread=worker"), "{said}");
}

fn panic_on_a_thread() {
    init(&LogConfig::default()).expect("the first call");
    abort_on_panic();
    let worker = std::thread::Builder::new().name("worker".into());
    let thread = worker.spawn(|| panic!("the raft loop is lost")).expect("a thread");
    let _ = thread.join();
    unreachable!("the process ended with the thread");
}
