//! A manager's local socket: the way in for root on a manager's machine, when no certificate is left.
//!
//! Who is at the other end says the kernel (SO_PEERCRED). Root on a manager's machine owns the cluster anyway, since it reads the
//! authority's key; here it needs no key for it, and what it does is recorded under its name.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper_util::rt::TokioIo;
use model::identity::{Identity, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

use crate::identity::Peer;

/// Connections to a local socket, of root and of the user that the manager runs as.
#[derive(Debug)]
pub struct LocalIncoming(UnixListener);

/// One of them.
#[derive(Debug)]
pub struct LocalConnection {
    stream: UnixStream,
    peer: Peer,
}

impl LocalIncoming {
    /// Listens at `path`, in place of what an earlier run left there. The directory has to be closed to others: between its
    /// making and its closing the socket is as open as the directory lets it.
    ///
    /// # Errors
    /// The path is too long for a socket (107 bytes), or cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self(listener))
    }
}

impl Stream for LocalIncoming {
    type Item = io::Result<LocalConnection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (stream, _) = ready!(self.0.poll_accept(cx))?;
            match stream.peer_cred().map(|credentials| credentials.uid()) {
                Ok(uid) if uid == 0 || uid == rustix::process::geteuid().as_raw() => {
                    let peer = Peer::local(admin(uid));
                    return Poll::Ready(Some(Ok(LocalConnection { stream, peer })));
                }
                Ok(uid) => tracing::warn!(uid, "refused at the local socket: it is for root"),
                Err(error) => tracing::warn!(%error, "somebody unknown at the local socket"),
            }
        }
    }
}

fn admin(uid: u32) -> Identity {
    let name = if uid == 0 { "local root".to_owned() } else { format!("local user {uid}") };
    Identity::Operator { name, role: Role::Admin }
}

/// A gRPC channel to the local socket of a manager on this machine. It dials at the first call and again after a failure.
pub fn channel(path: &Path) -> Channel {
    let path: Arc<Path> = path.into();
    let connector = tower::service_fn(move |_authority: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

impl Connected for LocalConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for LocalConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}
