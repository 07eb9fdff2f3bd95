//! Managers that join where an administrator has to approve them.

use std::sync::Arc;

use model::{
    cluster::{Cluster, Judgement},
    command::{Answer, Rejection},
};

use crate::{requests::Outcome, write::Writer};

/// What was said of so many is remembered: a manager joins seconds after it was approved.
const MAX_JUDGED: usize = 32;

impl Writer<'_> {
    pub(super) fn judge_joiner(&mut self, fingerprint: &str, name: &str, approved: bool) -> Outcome {
        let cluster = self.cluster()?;
        let mut judged = (*cluster.judged).clone();
        judged.retain(|known| known.fingerprint != fingerprint);
        let (fingerprint, name) = (fingerprint.to_owned(), name.to_owned());
        judged.push(Judgement { fingerprint, name, approved, by: self.actor.clone(), at: self.at });
        if judged.len() > MAX_JUDGED {
            judged.remove(0);
        }
        let (judged, generation) = (Arc::new(judged), self.generation);
        self.put_cluster(Cluster { judged, generation, ..(*cluster).clone() });
        Ok(Answer::Done)
    }
}

/// A manager may join where nobody has to approve it, or where somebody did.
pub(super) fn approved(cluster: &Cluster, fingerprint: &str, name: &str) -> Result<(), Rejection> {
    let approved = |known: &Judgement| known.fingerprint == fingerprint && known.approved;
    if !cluster.settings.approve_managers || cluster.judged.iter().any(approved) {
        return Ok(());
    }
    let message = format!("manager \"{name}\" was not approved: orchctl manager approve {name}");
    Err(Rejection::Conflict(message))
}
