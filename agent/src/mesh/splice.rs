//! Bulk between two TCP connections without copying it through this process: socket to pipe to socket, in the kernel.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

/// Fewer turns than the default of 64 KiB; an unprivileged process may not always have it.
const PIPE: usize = 512 * 1024;

/// Moves everything until the end of `from`, then closes the sending half of `to`.
///
/// # Errors
/// One of the connections broke.
pub async fn forward(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A smaller pipe only takes more turns.
    let size = fcntl_setpipe_size(&inlet, PIPE).unwrap_or(64 * 1024);
    loop {
        let mut held = fill(from, &inlet, size).await?;
        if held == 0 {
            break;
        }
        while held > 0 {
            held -= empty(&outlet, to, held).await?;
        }
    }
    rustix::net::shutdown(to, rustix::net::Shutdown::Write).or_else(already_gone)
}

async fn fill(from: &TcpStream, inlet: &OwnedFd, size: usize) -> io::Result<usize> {
    from.async_io(Interest::READABLE, || moved(from, inlet, size)).await
}

async fn empty(outlet: &OwnedFd, to: &TcpStream, held: usize) -> io::Result<usize> {
    to.async_io(Interest::WRITABLE, || moved(outlet, to, held)).await
}

fn moved(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(splice(from, None, to, None, most, flags)?)
}

fn already_gone(error: rustix::io::Errno) -> io::Result<()> {
    if error == rustix::io::Errno::NOTCONN { Ok(()) } else { Err(error.into()) }
}
