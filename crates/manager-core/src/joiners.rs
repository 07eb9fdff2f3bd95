//! Managers that join where an administrator has to approve them: they ask again and again, and here is who does.
//!
//! Who waits is the leader's own memory, and comes back with the next question; what was said of it is in the state.

use std::{collections::BTreeMap, time::Duration};

use model::{
    audit::Origin,
    command::Command,
    identity::JoinRole,
    request::{ApiError, ErrorCode, JoinRequest, JoinerView, Response},
    time::Instant,
};

use crate::Manager;

/// Who waits at once: a token is made for each.
const MAX_WAITING: usize = 32;
/// Who was not heard for so long waits no more.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Who waits, by fingerprint, and when it was last heard.
#[derive(Default)]
pub(crate) struct Joiners(BTreeMap<String, (JoinerView, Instant)>);

impl Manager {
    /// What a joiner is told that has to wait; `None`: it need not.
    ///
    /// # Errors
    /// It was denied, or too many wait.
    pub(crate) fn await_approval(
        &mut self,
        join: &JoinRequest,
        origin: &Origin,
    ) -> Result<Option<Response>, ApiError> {
        let Some(cluster) = self.store.cluster() else { return Ok(None) };
        if join.role != JoinRole::Manager || !cluster.settings.approve_managers {
            return Ok(None);
        }
        let (fingerprint, name) = (join.fingerprint(), &join.facts.hostname);
        let said = cluster.judged.iter().find(|judged| judged.fingerprint == fingerprint);
        let said = said.map(|judged| (judged.approved, judged.by.to_string()));
        let (now, since) = (self.now.mono, self.stamps.peek(self.now));
        let Some(lead) = &mut self.lead else { return Ok(None) };
        let waiting = &mut lead.joiners.0;
        match said {
            Some((true, _)) => {
                waiting.remove(&fingerprint);
                return Ok(None);
            }
            Some((false, by)) => {
                waiting.remove(&fingerprint);
                let message = format!("manager \"{name}\" ({fingerprint}) may not join: {by} denied it");
                return Err(ApiError::new(ErrorCode::Denied, message));
            }
            None => {}
        }
        waiting.retain(|_, (_, heard)| now.since(*heard) < FORGOTTEN);
        if waiting.len() >= MAX_WAITING && !waiting.contains_key(&fingerprint) {
            let message = format!("{MAX_WAITING} managers wait to be approved already; retry");
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        let view = JoinerView {
            name: name.clone(),
            address: join.address.clone(),
            fingerprint: fingerprint.clone(),
            source: origin.source.clone(),
            since,
        };
        waiting.entry(fingerprint.clone()).or_insert((view, now)).1 = now;
        Ok(Some(Response::Waits { fingerprint }))
    }

    pub(crate) fn joiner_views(&self) -> Vec<JoinerView> {
        let now = self.now.mono;
        let waiting = self.lead.iter().flat_map(|lead| lead.joiners.0.values());
        waiting.filter(|(_, heard)| now.since(*heard) < FORGOTTEN).map(|(view, _)| view.clone()).collect()
    }

    /// A word on one that waits, by its name or the beginning of its fingerprint.
    pub(crate) fn judge_joiner(&self, joiner: &str, approved: bool) -> Result<Command, ApiError> {
        let is = |view: &JoinerView| view.name == joiner || view.fingerprint.starts_with(joiner);
        let mut found = self.joiner_views().into_iter().filter(is);
        match (found.next(), found.next()) {
            (Some(JoinerView { fingerprint, name, .. }), None) => {
                Ok(Command::JudgeJoiner { fingerprint, name, approved })
            }
            (None, _) => {
                let message =
                    format!("no manager \"{joiner}\" waits to join; orchctl manager pending shows who does");
                Err(ApiError::new(ErrorCode::NotFound, message))
            }
            (Some(_), Some(_)) => {
                let message = format!("several managers that wait are \"{joiner}\": use the fingerprint");
                Err(ApiError::new(ErrorCode::Conflict, message))
            }
        }
    }
}
