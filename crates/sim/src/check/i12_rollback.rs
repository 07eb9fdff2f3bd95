//! I12: a rollback is always possible once there was an update.
//!
//! A refusal is right only when there is no previous declaration, when a rollback is already under way, or when the service
//! is being removed; the state that was newest when the answer came says which.

use model::{
    request::{ApiError, ErrorCode, Reply},
    service::RolloutState,
};

use crate::{queue::SEC, world::World};

impl World {
    pub(crate) fn check_rollback(&mut self, name: &str, result: &Result<Reply, ApiError>) {
        let Err(error) = result else {
            self.checks.count("rollbacks");
            return;
        };
        if error.code != ErrorCode::Conflict {
            return;
        }
        let now = self.now();
        let Some(service) = self.checks.frontier().and_then(|store| store.service_by_name(name)) else {
            return;
        };
        let rolling =
            service.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::RollingBack);
        // Old enough that it was so when the question was asked.
        let lasting = self.clients.operations.iter().rev().take(200).all(|operation| {
            operation.on.as_ref().is_none_or(|(key, _)| key != name)
                || operation.invoked + 20 * SEC < now
                || operation.ask == Some(crate::history::Ask::Read)
        });
        if service.previous.is_some() && !rolling && !service.removing && lasting {
            let what = format!("a rollback of {name} was refused: {}", error.message);
            self.violate("I12", what, vec![name.to_owned()]);
        }
    }
}
