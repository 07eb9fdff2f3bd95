//! From one mesh process to the next, without a moment in which nobody listens.
//!
//! The newcomer asks by a socket in the directory. What follows:
//!
//! 1. The old process sends its listening sockets. It stops hearing other nodes and asks them to connect anew; the newcomer hears
//!    them on the same socket, and dials those that it needs.
//! 2. When it has its connections, or after [`LINKS`], the newcomer begins to accept clients and says so.
//! 3. The old process accepts nothing any more, lets what is under way end, and ends itself.
//!
//! A newcomer that dies before it has said so changes nothing for clients: the old process goes on. Until the old one ends, the
//! newcomer asks it too whether a task has drained (`predecessor`): each knows only what it carries itself.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::sockets::Key;

/// The socket's name in the directory.
pub const SOCKET: &str = "mesh.handover";
/// How long a newcomer waits for connections with other nodes before it accepts clients.
pub const LINKS: Duration = Duration::from_secs(3);
/// Until either side gives the other up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors in one message; the kernel takes 253.
const BATCH: usize = 64;
const READY: u8 = 1;
/// The list of sockets, in bytes.
const MOST: u32 = 16 << 20;

/// What a newcomer was given.
#[derive(Debug)]
pub struct Succession {
    stream: UnixStream,
}

/// A succession, and the sockets that come with it.
pub type Given = (Succession, Vec<(Key, OwnedFd)>);

/// Asks the process that serves a directory for its sockets; `None` when there is none. Blocks.
///
/// # Errors
/// It does not answer as it should.
pub fn ask(directory: &Path) -> Result<Option<Given>> {
    let Ok(mut stream) = UnixStream::connect(directory.join(SOCKET)) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        // It was about to end.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error).context("the mesh that serves now does not answer"),
    }
    let length = u32::from_be_bytes(length);
    if length > MOST {
        bail!("the mesh that serves now says something else");
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    let keys: Vec<Key> = rmp_serde::from_slice(&bytes).context("the list of sockets")?;
    let mut sockets = Vec::new();
    while sockets.len() < keys.len() {
        let batch = receive(&stream)?;
        if batch.is_empty() {
            bail!("the mesh that serves now kept some of its sockets");
        }
        sockets.extend(batch);
    }
    Ok(Some((Succession { stream }, keys.into_iter().zip(sockets).collect())))
}

impl Succession {
    /// The newcomer accepts clients: the old process may go.
    ///
    /// # Errors
    /// It is gone already.
    pub fn ready(mut self) -> io::Result<UnixStream> {
        self.stream.write_all(&[READY])?;
        Ok(self.stream)
    }
}

/// Gives a newcomer the sockets. Blocks.
///
/// # Errors
/// It went away.
pub fn give(stream: &UnixStream, sockets: &[(Key, OwnedFd)]) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let keys: Vec<Key> = sockets.iter().map(|(key, _)| *key).collect();
    let bytes = rmp_serde::to_vec(&keys).context("the list of sockets")?;
    let length = u32::try_from(bytes.len()).context("the list of sockets")?;
    let mut writer = stream;
    writer.write_all(&length.to_be_bytes())?;
    writer.write_all(&bytes)?;
    for batch in sockets.chunks(BATCH) {
        let sockets: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
        send(stream, &sockets)?;
    }
    Ok(())
}

/// Waits until the newcomer accepts clients. Blocks.
///
/// # Errors
/// It went away or takes too long.
pub fn wait_ready(mut stream: UnixStream) -> Result<UnixStream> {
    let mut said = [0];
    stream.read_exact(&mut said).context("the newcomer")?;
    if said != [READY] {
        bail!("the newcomer says something else");
    }
    Ok(stream)
}

fn send(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(sockets));
    sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(rights.flatten().collect())
}
