//! What other members send.

use manager_core::Event;
use model::{id::MemberId, identity::Identity};
use proto::v1::{PeerDone, PeerFrame, peers_server};
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use crate::{core_loop::Input, inputs::Class};

/// The service.
pub struct Peers {
    /// What every service needs.
    pub context: Context,
    /// This member: frames for another id are refused.
    pub member: MemberId,
}

#[tonic::async_trait]
impl peers_server::Peers for Peers {
    async fn exchange(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<PeerDone>, Status> {
        let Identity::Manager(from) = self.context.identity(&request)? else {
            let refused = Status::permission_denied("only managers of this cluster may send here");
            return Err(self.context.turn_away_from(&request, refused));
        };
        let mut frames = request.into_inner();
        while let Some(frame) = frames.message().await? {
            if frame.to != self.member.0 {
                return Err(Status::failed_precondition(format!(
                    "this is manager {}, not {}: it was given another id",
                    self.member, frame.to
                )));
            }
            let event = Event::Peer { from, bytes: frame.message };
            let sent = self.context.inputs.of(Class::Raft).send(Input::Core(event)).await;
            sent.map_err(|_| Status::unavailable("this manager is shutting down"))?;
        }
        Ok(Response::new(PeerDone {}))
    }
}
