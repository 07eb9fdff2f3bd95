//! Threads in a network namespace that has a name.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread whose sockets, and those of the threads and programs that it starts, are the namespace's.
///
/// # Errors
/// The namespace is gone.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || enter(name).map(|()| work()));
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves this thread, and what it starts from now on, into the namespace for good.
///
/// # Errors
/// The namespace is gone.
pub fn enter(name: &str) -> Result<()> {
    let namespace =
        File::open(format!("/run/netns/{name}")).with_context(|| format!("cannot enter {name}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {name}"))
}
