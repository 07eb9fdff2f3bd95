//! Another authority in place of the present one, and the end of what earlier ones have issued.

use std::sync::Arc;

use model::{
    cluster::{Authority, Cluster, Former, MAX_FORMER},
    command::{Answer, Rejection},
    sealed::Sealed,
};

use planted::Bug;

use crate::{requests::Outcome, write::Writer};

impl Writer<'_> {
    pub(super) fn rotate_authority(
        &mut self,
        current: &str,
        certificate: &str,
        bridge: &str,
        sealed: &Sealed,
    ) -> Outcome {
        let cluster = self.cluster_under(current)?;
        if let Some(former) = cluster.authority.rotation() {
            return Err(Rejection::Conflict(format!(
                "the authority was replaced at {}, and what the one before has issued counts still; first: orchctl authority finish",
                former.replaced
            )));
        }
        if sealed.key != cluster.keys.active {
            let message = format!("the data key is {} by now; ask again", cluster.keys.active);
            return Err(Rejection::Conflict(message));
        }
        let mut former = cluster.authority.former.clone();
        former.insert(
            0,
            Former {
                certificate: cluster.authority.certificate.clone(),
                bridge: bridge.to_owned(),
                last_serial: cluster.last_serial,
                replaced: self.at,
                trusted: true,
            },
        );
        former.truncate(MAX_FORMER);
        let certificate = certificate.to_owned();
        self.put_authority(
            &cluster,
            Authority { certificate, key: String::new(), sealed: Some(sealed.clone()), former },
        );
        // Their secrets come of the former one's key.
        let tokens: Vec<_> = self.store.tokens.keys().copied().collect();
        for id in tokens {
            self.revoke_token(id)?;
        }
        Ok(Answer::Done)
    }

    pub(super) fn finish_rotation(&mut self, current: &str, leave_behind: bool) -> Outcome {
        let cluster = self.cluster_under(current)?;
        let mut authority = cluster.authority.clone();
        if authority.rotation().is_none() {
            return Err(Rejection::Conflict("no rotation of the authority is under way".into()));
        }
        let managers: Vec<&str> = self.store.members_behind().map(|member| member.name.as_str()).collect();
        if !managers.is_empty() && !planted::is(Bug::ManagersLeftBehind) {
            return Err(Rejection::Conflict(format!(
                "{} certificates of the former authority still, and would be shut out: wait for them, or remove them (orchctl manager rm)",
                have("manager", &managers)
            )));
        }
        let nodes: Vec<&str> = self.store.nodes_behind().map(|node| node.facts.hostname.as_str()).collect();
        if !nodes.is_empty() && !leave_behind {
            return Err(Rejection::Conflict(format!(
                "{} certificates of the former authority still: wait for them, or finish with --leave-behind",
                have("node", &nodes)
            )));
        }
        for former in &mut authority.former {
            former.trusted = false;
        }
        self.put_authority(&cluster, authority);
        Ok(Answer::Done)
    }

    /// The cluster, while its authority is the one with this certificate.
    fn cluster_under(&self, current: &str) -> Result<Arc<Cluster>, Rejection> {
        let cluster = self.cluster()?;
        if cluster.authority.certificate.trim_end() == current.trim_end() {
            return Ok(cluster);
        }
        Err(Rejection::Conflict("the authority is another one by now; look again".into()))
    }

    fn put_authority(&mut self, cluster: &Cluster, authority: Authority) {
        let generation = self.generation;
        self.put_cluster(Cluster { authority, generation, ..cluster.clone() });
    }
}

/// The first few names, and how many there are.
fn have(kind: &str, names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len() {
        1 => format!("{kind} {shown} has"),
        count if count <= SHOWN => format!("{kind}s {shown} have"),
        count => format!("{count} {kind}s ({shown}, ...) have"),
    }
}
