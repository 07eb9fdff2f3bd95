//! The last line of a process that has a bug.

use std::backtrace::Backtrace;
use std::panic::{PanicHookInfo, set_hook};

/// Makes every panic, on whatever thread, one ERROR line in the log and then the end of the process.
///
/// Going on after a panic would leave a daemon that looks alive and has lost a part of itself: a held lock, a task that
/// nobody joins, a Raft loop that no longer turns. Ending is safe, because every state that counts is on disk, and
/// systemd starts the process again. Call it once, after [`crate::init`].
pub fn abort_on_panic() {
    set_hook(Box::new(|info| {
        report(info);
        std::process::abort();
    }));
}

fn report(info: &PanicHookInfo<'_>) {
    let location = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = info.payload_as_str().unwrap_or("(no message)");
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    tracing::error!(%location, panic = message, thread = name, %backtrace, "a bug: the process ends");
}
