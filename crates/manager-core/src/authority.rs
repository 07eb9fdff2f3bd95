//! Another authority in place of the present one, with nodes away.
//!
//! The shell of the leader makes it and has the present one vouch for it. From the entry on, everything is issued by the new one, and
//! what the earlier one has issued counts still. Managers and nodes are told, and ask for certificates of the new one. Whoever
//! was away finds the way over the former one's voucher, the bridge. When an admin finishes the rotation, what the former one has issued
//! counts no more; a node that was away all the time comes back by proof of the key that the state knows of it.

use model::{
    cluster::{Authority, Former},
    command::Command,
    node::Node,
    request::{ApiError, AuthorityView, ErrorCode, FormerView, NodeBehind, Successor, Waiting},
    session::ManagerMessage,
};

use crate::{Action, Manager, session::State};

/// The version of the conversation with agents in which they hear of the authority.
const HEARS: u32 = 6;

impl Manager {
    /// The entry that puts another authority in the present one's place.
    ///
    /// # Errors
    /// A manager has an older version, there is no data key, or the lead has just come here.
    pub(crate) fn rotate_authority(
        &mut self,
        current: String,
        successor: Option<Box<Successor>>,
    ) -> Result<Command, ApiError> {
        self.same_versions("another authority")?;
        let Some(successor) = successor else {
            // The lead came here after the shell had looked.
            return Err(ApiError::new(ErrorCode::Unavailable, "the lead has just changed; ask again"));
        };
        let Successor { certificate, bridge, key } = *successor;
        let sealed = self.seal_authority(&certificate, &key)?;
        Ok(Command::RotateAuthority { current, certificate, bridge, sealed })
    }

    pub(crate) fn authority_view(&self) -> Result<AuthorityView, ApiError> {
        let none = || ApiError::new(ErrorCode::Unavailable, "there is no cluster yet");
        let Authority { certificate, former, .. } = &self.store.cluster().ok_or_else(none)?.authority;
        let former_view = |former: &Former| FormerView {
            certificate: former.certificate.clone(),
            replaced: former.replaced,
            trusted: former.trusted,
        };
        let behind = |node: &Node| NodeBehind {
            name: node.facts.hostname.clone(),
            state: node.state,
            returns: node.key.is_some(),
        };
        let rotation = former.first().filter(|former| former.trusted);
        let tokens = self.store.deploy_tokens().iter();
        let tokens = tokens.filter(|token| rotation.is_some_and(|of| token.created <= of.replaced));
        Ok(AuthorityView {
            certificate: certificate.clone(),
            former: former.iter().map(former_view).collect(),
            managers: self.store.members_behind().map(|member| member.name.clone()).collect(),
            nodes: self.store.nodes_behind().map(behind).collect(),
            deploy_tokens: tokens.map(|token| token.spec.name.clone()).collect(),
        })
    }

    /// A rotation waits for an admin.
    pub(crate) fn rotation_waits(&self) -> Option<Waiting> {
        let former = self.store.cluster()?.authority.rotation()?;
        let (managers, nodes) = (self.store.members_behind().count(), self.store.nodes_behind().count());
        let why = format!(
            "what the former one issued counts still (managers to go: {managers}, nodes: {nodes}) until orchctl authority finish; orchctl authority show"
        );
        Some(Waiting { what: "authority".into(), why, since: former.replaced })
    }

    /// Tells the shell, and where this member leads the agents, what the authority is by now.
    pub(crate) fn tell_authority(&mut self) {
        if !std::mem::take(&mut self.told.authority_due) {
            return;
        }
        let Some(cluster) = self.store.cluster() else { return };
        let me = self.config.member;
        let now = (cluster.authority.bundle(), self.store.members_behind().any(|member| member.id == me));
        if self.told.authority.as_ref() == Some(&now) {
            return;
        }
        let before = self.told.authority.replace(now.clone());
        let (bundle, renew) = now;
        self.act(Action::Authority { bundle: bundle.clone(), renew });
        if before.is_none_or(|(known, _)| known != bundle) {
            let connections: Vec<u64> = self.sessions.by_connection.keys().copied().collect();
            connections.into_iter().for_each(|connection| self.tell_agent_of_authority(connection));
        }
    }

    /// Tells an agent whose session is open what the authority is, unless it has been the only one ever.
    pub(crate) fn tell_agent_of_authority(&mut self, connection: u64) {
        let Some(cluster) = self.store.cluster() else { return };
        let Some(session) = self.sessions.by_connection.get(&connection) else { return };
        let State::Open(open) = &session.state else { return };
        if open.protocol < HEARS || cluster.authority.former.is_empty() {
            return;
        }
        let behind = |node: &Node| cluster.authority.is_behind(node.certificate, node.joined);
        let renew = self.store.node(session.node).is_some_and(behind);
        let message = ManagerMessage::Authority { bundle: cluster.authority.bundle(), renew };
        self.act(Action::SendAgent { connection, message });
    }
}
