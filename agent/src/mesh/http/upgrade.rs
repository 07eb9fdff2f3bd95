//! WebSockets and other protocols that a connection changes to: bytes both ways until both ends are done.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{exchange::Carrier, pool::Lease};
use crate::mesh::{access::Note, duplex, world::World};

/// Carries the bytes of a changed connection, counted as the replica's for as long as it lives.
pub fn carry(world: &Arc<World>, client: OnUpgrade, replica: OnUpgrade, lease: Lease, mut note: Note) {
    let Lease { carrier, ticket, .. } = lease;
    // HTTP/2 has no change of protocol.
    let Carrier::Line(line) = carrier else { return };
    world.connections.spawn(async move {
        let _ticket = ticket;
        let _hold = line.finish().await;
        let (Ok(client), Ok(replica)) = tokio::join!(client, replica) else { return };
        let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
        // A broken connection is its two ends' business: both see it closed.
        drop(duplex::join(&mut client, &mut replica).await);
        note.is_whole();
    });
}
