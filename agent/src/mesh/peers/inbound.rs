//! A stream that another node opened: to one of this node's own tasks, or refused at once.

use std::{sync::Arc, time::Duration};

use mesh::{
    balance::Failure,
    leg::{Answer, HEADER, Header},
};
use model::id::TaskId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use yamux::Stream;

use super::link::Link;
use crate::mesh::{
    dial::{self, Backend},
    duplex,
    world::World,
};

/// A header is sent with the stream's opening; whoever takes longer is broken.
const HEAD: Duration = Duration::from_secs(5);

/// Serves a stream.
pub async fn serve(world: Arc<World>, link: Arc<Link>, stream: Stream) {
    let mut stream = stream.compat();
    let mut bytes = [0; HEADER];
    let Ok(Ok(_)) = timeout(HEAD, stream.read_exact(&mut bytes)).await else { return };
    match Header::decode(&bytes) {
        Some(Header::Open { task, port, client }) => {
            tracing::trace!(%task, port, %client, node = %link.node, "a stream");
            carry(&world, task, port, &mut stream).await;
        }
        Some(Header::Retire) => {
            link.set_retired();
            world.peers.look_again();
            drop(answer(&mut stream, Answer::Open).await);
        }
        // Of a newer mesh: it will try another way.
        None => drop(answer(&mut stream, Answer::Unreachable).await),
    }
}

async fn carry(world: &World, task: TaskId, port: u16, stream: &mut Compat<Stream>) {
    match open(world, task, port).await {
        Ok(mut backend) => {
            if answer(stream, Answer::Open).await.is_ok() {
                // A broken connection is its two ends' business: both see it closed.
                drop(duplex::join(stream, &mut backend.wire).await);
            }
        }
        Err(refusal) => drop(answer(stream, refusal).await),
    }
}

/// Opens this node's own tasks and nothing else.
async fn open(world: &World, task: TaskId, port: u16) -> Result<Backend, Answer> {
    let address = world.table.load().local(task).ok_or(Answer::NoSuchTask)?;
    let opened = dial::open_local(world, task, address.into(), port).await;
    opened.map_err(|failure| match failure {
        Failure::Withdrawn => Answer::Draining,
        Failure::Unreachable | Failure::Broken | Failure::Late => Answer::Unreachable,
    })
}

async fn answer(stream: &mut Compat<Stream>, answer: Answer) -> std::io::Result<()> {
    stream.write_u8(answer.encode()).await?;
    stream.flush().await
}
